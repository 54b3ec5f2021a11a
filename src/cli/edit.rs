//! `ocibuild edit`.

use super::Common;
use super::config::{ConfigArguments, unique};
use super::progress_display::Watch;
use super::rewriting::RewritingArguments;
use super::values;
use clap::{Args, ValueEnum};
use ocibuild::build::edit::{ConfigMember, ImageEdit};
use ocibuild::build::image::HealthcheckEdit;
use ocibuild::{Error, Result, StoredImage, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "\
Layers are neither read nor moved. In a layout, the name moves to the changed image, and the blobs of the image before stay until
`ocibuild gc`. In a registry, the config and the manifest are pushed under the same tag. If nothing changes, the digest stays.

Examples:
  ocibuild edit ./out:v1 --label org.opencontainers.image.version=1.0.1
  ocibuild edit ./out:v1 --unset-env DEBUG --unset healthcheck --to oci:./out:v2
  ocibuild edit docker://registry.example/team/app:v1 --env MODE=production")]
pub(super) struct EditArguments {
    #[command(flatten)]
    rewriting: RewritingArguments,
    #[command(flatten)]
    config: ConfigArguments,
    /// Set an annotation of the manifest. Repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = values::annotation, help_heading = "Config")]
    annotations: Vec<(String, String)>,
    /// Set the time of the image: RFC 3339 or seconds
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, help_heading = "Config")]
    created: Option<Timestamp>,
    /// Remove a member of the config. Repeatable
    #[arg(long, value_name = "MEMBER", help_heading = "Config")]
    unset: Vec<Member>,
    /// Remove a label. Repeatable
    #[arg(long = "unset-label", value_name = "KEY", help_heading = "Config")]
    unset_labels: Vec<String>,
    /// Remove a port. Repeatable
    #[arg(long = "unset-expose", value_name = "PORT[/tcp|udp]", value_parser = values::port, help_heading = "Config")]
    unset_ports: Vec<String>,
    /// Remove a volume. Repeatable
    #[arg(long = "unset-volume", value_name = "PATH", value_parser = values::absolute, help_heading = "Config")]
    unset_volumes: Vec<String>,
    /// Remove an annotation of the manifest. Repeatable
    #[arg(long = "unset-annotation", value_name = "KEY", help_heading = "Config")]
    unset_annotations: Vec<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A member that `--unset` removes, named like the flag that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Member {
    Entrypoint,
    Cmd,
    Workdir,
    User,
    StopSignal,
    Healthcheck,
    Author,
    Created,
}

/// Changes the image and prints the digest of the result.
pub(super) fn run(arguments: &EditArguments) -> Result<ExitCode> {
    let watch = Arc::new(Watch::new(&arguments.common));
    let edit = arguments.edit(&watch)?;
    let target = arguments.rewriting.target()?;
    let change = |image: StoredImage| edit.apply(image);
    arguments.rewriting.run(&target, &change, &arguments.common, &watch)?;
    Ok(ExitCode::SUCCESS)
}

impl EditArguments {
    fn edit(&self, watch: &Watch) -> Result<ImageEdit> {
        let mut edit = ImageEdit::default();
        edit.config = self.config.edit(watch)?;
        edit.annotations = unique(&self.annotations, "--annotation")?;
        edit.created = self.created;
        edit.unset = self.unset.iter().map(|member| member.of_config()).collect();
        edit.unset_labels = removed(&self.unset_labels, "--unset-label", &edit.config.labels)?;
        let ports = edit.config.exposed_ports.iter().map(|port| (port.clone(), String::new())).collect();
        edit.unset_ports = removed(&self.unset_ports, "--unset-expose", &ports)?;
        let volumes = edit.config.volumes.iter().map(|volume| (volume.clone(), String::new())).collect();
        edit.unset_volumes = removed(&self.unset_volumes, "--unset-volume", &volumes)?;
        edit.unset_annotations = removed(&self.unset_annotations, "--unset-annotation", &edit.annotations)?;
        if let Some(member) = edit.unset.iter().find(|member| is_set(&edit, **member)) {
            let name = self.unset.iter().find(|known| known.of_config() == *member);
            let name = name.and_then(ValueEnum::to_possible_value).map(|value| value.get_name().to_owned());
            return Err(Error::usage(format!("--unset {}", name.unwrap_or_default()), "the member is also set"));
        }
        if edit == ImageEdit::default() {
            return Err(Error::usage("edit", "nothing to change").hint("--help lists the flags"));
        }
        Ok(edit)
    }
}

impl Member {
    fn of_config(self) -> ConfigMember {
        match self {
            Member::Entrypoint => ConfigMember::Entrypoint,
            Member::Cmd => ConfigMember::Cmd,
            Member::Workdir => ConfigMember::WorkingDir,
            Member::User => ConfigMember::User,
            Member::StopSignal => ConfigMember::StopSignal,
            Member::Healthcheck => ConfigMember::Healthcheck,
            Member::Author => ConfigMember::Author,
            Member::Created => ConfigMember::Created,
        }
    }
}

fn is_set(edit: &ImageEdit, member: ConfigMember) -> bool {
    match member {
        ConfigMember::Entrypoint => edit.config.entrypoint.is_some(),
        ConfigMember::Cmd => edit.config.cmd.is_some(),
        ConfigMember::WorkingDir => edit.config.working_dir.is_some(),
        ConfigMember::User => edit.config.user.is_some(),
        ConfigMember::StopSignal => edit.config.stop_signal.is_some(),
        ConfigMember::Healthcheck => edit.config.healthcheck != HealthcheckEdit::default(),
        ConfigMember::Author => edit.config.author.is_some(),
        ConfigMember::Created => edit.created.is_some(),
    }
}

/// Returns the names that a flag removes; to set one of them as well can only be a mistake.
fn removed(names: &[String], flag: &str, set: &BTreeMap<String, String>) -> Result<BTreeSet<String>> {
    match names.iter().find(|name| set.contains_key(*name)) {
        Some(name) => Err(Error::usage(format!("{flag} {name}"), "is also set")),
        None => Ok(names.iter().cloned().collect()),
    }
}
