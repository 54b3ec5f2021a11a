//! The flag that says what happens where the sources of an image hold secrets.

use clap::{Args, ValueEnum};
use ocibuild::build::SecretPolicy;

#[derive(Debug, Args)]
pub(super) struct SecretsArguments {
    /// Set what to do about passwords, keys and tokens found in the sources
    #[arg(long, value_name = "WHAT", default_value = "warn", help_heading = "Content")]
    secrets: SecretsFlag,
}

/// The handling of secrets in the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SecretsFlag {
    /// Warn about each secret, with its file and line
    Warn,
    /// Fail if a secret is found
    Deny,
    /// Do not search for secrets
    Allow,
}

impl SecretsArguments {
    pub(super) fn policy(&self) -> SecretPolicy {
        match self.secrets {
            SecretsFlag::Warn => SecretPolicy::Warn,
            SecretsFlag::Deny => SecretPolicy::Deny,
            SecretsFlag::Allow => SecretPolicy::Allow,
        }
    }
}
