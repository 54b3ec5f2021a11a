//! RCC's formats, with the real rcc as the judge where it can be had.

mod blueprint;
mod flags;
mod images;
mod large;
mod machine;
mod packed;
mod programs;
mod recorded;
mod resolving;
mod restored;
mod reused;
mod robots;
mod secrets;
mod split;
