//! The distribution client.

mod authentication;
mod challenge;
mod content;
pub mod credentials;
pub mod helper;
pub mod origin;
pub mod proxy;
mod refusal;
mod retry;
pub mod secret;
mod token;
pub mod transport;
