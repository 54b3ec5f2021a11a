//! RCC's formats, compared with the real rcc if it is available.

mod blueprint;
mod flags;
mod images;
mod large;
pub(crate) mod machine;
mod packed;
mod platforms;
mod programs;
mod recorded;
mod refused;
mod resolving;
mod restored;
mod reused;
mod robots;
mod secrets;
mod split;
