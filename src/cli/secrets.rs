//! The flag that says what happens where the sources of an image hold secrets.

use clap::{Args, ValueEnum};
use ocibuild::build::SecretPolicy;

#[derive(Debug, Args)]
pub(super) struct SecretsArguments {
    /// What to do about passwords, keys and tokens in the robot, its environment and the sources of --copy
    #[arg(long, value_name = "WHAT", default_value = "warn", help_heading = "Content")]
    secrets: SecretsFlag,
}

/// What happens to an image whose sources hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SecretsFlag {
    /// Warn of each one, with its file and line
    Warn,
    /// Build nothing
    Deny,
    /// Do not search
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
