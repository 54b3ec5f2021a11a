//! The distribution client.

pub mod credentials;
pub mod helper;
pub mod origin;
pub mod secret;
