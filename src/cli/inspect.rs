//! `ocibuild inspect`.

use super::network::NetworkArguments;
use super::output::print;
use super::progress_display::Watch;
use super::source::{OpenedImage, SourceArguments};
use super::{Common, OutputFormat};
use clap::Args;
use ocibuild::Result;
use ocibuild::common::error::one_line;
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::store::RemoteLayers;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ocibuild inspect ./out:v1 --format json | jq .config.config.Entrypoint")]
pub(super) struct InspectArguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Prints what the image's documents say.
pub(super) fn run(arguments: &InspectArguments) -> Result<ExitCode> {
    arguments.network.refuse_policy("inspect")?;
    let watch = Arc::new(Watch::new(&arguments.common));
    let opened = arguments.source.open(&arguments.network, &watch)?;
    match arguments.common.format {
        OutputFormat::Json => print(&to_json(&opened).to_string())?,
        OutputFormat::Text => print(&to_text(&opened))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(opened: &OpenedImage) -> Value {
    let image = &opened.image;
    let layers: Vec<Value> = image
        .manifest
        .layers
        .iter()
        .zip(image.config.diff_ids())
        .map(|(layer, diff_id)| {
            let mut described = layer.to_json();
            described["diffId"] = diff_id.to_string().into();
            described
        })
        .collect();
    json!({
        "names": opened.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "manifest": image.descriptor.to_json(),
        "annotations": image.manifest.annotations,
        "platform": image.config.platform().to_string(),
        "configDigest": image.manifest.config.digest.to_string(),
        "config": image.config.document(),
        "layers": layers,
    })
}

/// Returns the test, and then what else is set, with Go's durations in seconds.
fn healthcheck(check: &Value) -> String {
    let mut parts = vec![check["Test"].to_string()];
    for (name, key) in [("every", "Interval"), ("timeout", "Timeout"), ("start", "StartPeriod")] {
        if let Some(nanoseconds) = check[key].as_f64().filter(|duration| *duration > 0.0) {
            parts.push(format!("{name} {}s", nanoseconds / 1e9));
        }
    }
    if let Some(retries) = check["Retries"].as_u64().filter(|retries| *retries > 0) {
        parts.push(counted(usize::try_from(retries).unwrap_or(usize::MAX), "retry"));
    }
    parts.join(", ")
}

fn to_text(opened: &OpenedImage) -> String {
    let image = &opened.image;
    let config = &image.config.document()["config"];
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key:<13}{}", one_line(&value)));
    for name in &opened.names {
        line("name", name.to_string());
    }
    line("manifest", image.descriptor.digest.to_string());
    line("config", image.manifest.config.digest.to_string());
    line("platform", image.config.platform().to_string());
    if let Some(created) = image.config.document()["created"].as_str() {
        line("created", created.to_owned());
    }
    for (name, key) in [("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("workdir", "WorkingDir"), ("user", "User")] {
        match &config[key] {
            Value::Null => {}
            Value::String(text) => line(name, text.clone()),
            other => line(name, other.to_string()),
        }
    }
    for (name, key) in [("port", "ExposedPorts"), ("volume", "Volumes")] {
        for value in config[key].as_object().into_iter().flat_map(|members| members.keys()) {
            line(name, value.clone());
        }
    }
    if let Some(signal) = config["StopSignal"].as_str() {
        line("stop signal", signal.to_owned());
    }
    if config["Healthcheck"].is_object() {
        line("healthcheck", healthcheck(&config["Healthcheck"]));
    }
    for variable in config["Env"].as_array().into_iter().flatten() {
        line("env", variable.as_str().unwrap_or_default().to_owned());
    }
    for (key, value) in config["Labels"].as_object().into_iter().flatten() {
        line("label", format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for (key, value) in &image.manifest.annotations {
        line("annotation", format!("{key}={value}"));
    }
    let total = image.manifest.layers.iter().map(|layer| layer.size).sum();
    line("size", format!("{} in {}", size(total), counted(image.manifest.layers.len(), "layer")));
    let left_out = RemoteLayers::of(&image.descriptor);
    for layer in &image.manifest.layers {
        let elsewhere =
            left_out.repository(&layer.digest).map(|name| format!("  not downloaded, in {name}")).unwrap_or_default();
        line("layer", format!("{}  {}{elsewhere}", layer.digest, size(layer.size)));
    }
    lines.join("\n")
}
