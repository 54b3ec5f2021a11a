//! The flags for the health check of an image.

use super::parse_sizes;
use super::values;
use clap::Args;
use ocibuild::build::image::HealthcheckEdit;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(next_help_heading = "Config")]
pub(super) struct HealthcheckArguments {
    /// Set the command that checks the health: a JSON array or words
    #[arg(long, value_name = "COMMAND", value_parser = values::command)]
    healthcheck: Option<std::vec::Vec<String>>,
    /// Set the time between two health checks, such as 30s
    #[arg(long, value_name = "TIME", value_parser = parse_sizes::age)]
    health_interval: Option<Duration>,
    /// Set the time after which a health check has failed
    #[arg(long, value_name = "TIME", value_parser = parse_sizes::age)]
    health_timeout: Option<Duration>,
    /// Set the time after the start in which failed health checks do not count
    #[arg(long, value_name = "TIME", value_parser = parse_sizes::age)]
    health_start_period: Option<Duration>,
    /// Set the number of failed health checks in a row that make a container unhealthy
    #[arg(long, value_name = "N")]
    health_retries: Option<u64>,
}

impl HealthcheckArguments {
    /// Returns the changes to the health check.
    pub(super) fn edit(&self) -> HealthcheckEdit {
        let mut edit = HealthcheckEdit::default();
        edit.command = self.healthcheck.clone();
        edit.interval = self.health_interval;
        edit.timeout = self.health_timeout;
        edit.start_period = self.health_start_period;
        edit.retries = self.health_retries;
        edit
    }
}
