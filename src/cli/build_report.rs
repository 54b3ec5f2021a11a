//! What the commands that build an image print.

use super::OutputFormat;
use super::build_target::BuildTarget;
use super::excluded;
use super::explain;
use super::into_index;
use super::output::print;
use super::progress_display::Watch;
use super::relocated;
use super::replaced::{replaced_json, report_replaced};
use ocibuild::build::add_platforms::GrownIndex;
use ocibuild::build::{Built, Plan};
use ocibuild::common::human_numbers::{counted, size};
use ocibuild::common::progress::warn;
use ocibuild::secrets::FoundSecret;
use ocibuild::spec::Replaced;
use ocibuild::{Descriptor, ImageName, Result};
use serde_json::{Value, json};

/// A finished image, and the plan that it was built from.
pub(super) struct Made {
    pub(super) plan: Plan,
    pub(super) built: Built,
}

/// Where the image went, and how that is reported.
pub(super) struct Reporting<'r> {
    pub(super) target: &'r BuildTarget,
    pub(super) names: &'r [ImageName],
    pub(super) format: OutputFormat,
    pub(super) watch: &'r Watch,
}

impl Reporting<'_> {
    /// Prints what would be built.
    ///
    /// # Errors
    /// Fails if a policy denies a secret that was found, or standard output cannot be written.
    pub(super) fn plans(&self, plans: &[Plan]) -> Result<()> {
        let mut documents = Vec::new();
        for plan in plans {
            let secrets = plan.check_secrets(self.watch)?;
            let mut document = plan.to_json()?;
            document["secrets"] = secrets.iter().map(FoundSecret::to_json).collect();
            documents.push(document);
        }
        match (self.format, &documents[..]) {
            (OutputFormat::Json, [only]) => print(&only.to_string()),
            (OutputFormat::Json, several) => print(&json!({"platforms": several}).to_string()),
            (OutputFormat::Text, documents) => {
                let mut lines = Vec::new();
                for (plan, document) in plans.iter().zip(documents) {
                    if documents.len() > 1 {
                        lines.push(format!("{}:", plan.base.config().platform()));
                    }
                    lines.extend(plan_lines(plan, document));
                }
                print(&lines.join("\n"))
            }
        }
    }

    /// Prints a build file that the plans were made from.
    ///
    /// # Errors
    /// Fails as [`Reporting::plans`].
    pub(super) fn build_file(&self, plans: &[Plan], file: &str) -> Result<()> {
        plans.iter().try_for_each(|plan| plan.check_secrets(self.watch).map(drop))?;
        print(file)
    }

    /// Prints the digest of an image, and describes the image.
    ///
    /// # Errors
    /// Fails if standard output cannot be written.
    pub(super) fn image(&self, made: &Made, explains: Explains) -> Result<()> {
        report_replaced(&made.built.replaced, self.watch);
        self.layers(made, explains);
        self.digest(&made.built.image.descriptor, &made.built.replaced, || made.to_json())
    }

    /// Prints the digest of an index, and describes its images.
    ///
    /// # Errors
    /// Fails if standard output cannot be written.
    pub(super) fn index(
        &self,
        index: &Descriptor,
        images: &[Made],
        replaced: &[Replaced],
        explains: Explains,
    ) -> Result<()> {
        self.images(images, replaced, explains);
        self.digest(index, replaced, || index_to_json(index, images))
    }

    /// Prints the digest of an index to which images were added, and describes these.
    ///
    /// # Errors
    /// Fails if standard output cannot be written.
    pub(super) fn grown_index(&self, grown: &GrownIndex, images: &[Made], explains: Explains) -> Result<()> {
        let replaced = &grown.moved.replaced;
        self.images(images, replaced, explains);
        self.watch.say(&into_index::platforms(grown));
        self.digest(&grown.descriptor, replaced, || {
            let mut document = index_to_json(&grown.descriptor, images);
            document["listed"] = into_index::listed_json(grown);
            document
        })
    }

    fn images(&self, images: &[Made], replaced: &[Replaced], explains: Explains) {
        report_replaced(replaced, self.watch);
        for made in images {
            let image = &made.built.image;
            self.watch.say(&format!("{}: {}", image.config.platform(), image.descriptor.digest));
            self.layers(made, explains);
        }
    }

    /// Prints the digest, or `document` with the names and the place of the image.
    fn digest(&self, descriptor: &Descriptor, replaced: &[Replaced], document: impl FnOnce() -> Value) -> Result<()> {
        if ocibuild::common::root::sync_was_refused() {
            let reason = "this file system does not support fsync; a crash can lose the image";
            warn(self.watch, &self.target.place(), reason);
        }
        if self.format == OutputFormat::Text {
            let digest = descriptor.digest.to_string();
            return match self.target.is_on_standard_output() {
                true => {
                    self.watch.say(&digest);
                    Ok(())
                }
                false => print(&digest),
            };
        }
        let mut document = document();
        document["replaced"] = replaced_json(replaced);
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        document["names"] = if names.is_empty() { json!(["latest"]) } else { json!(names) };
        match &self.target.layout {
            Some(layout) => document["layout"] = layout.display().to_string().into(),
            None => document["destinations"] = json!(self.target.texts),
        }
        print(&document.to_string())
    }

    fn layers(&self, Made { plan, built }: &Made, explains: Explains) {
        for (made, planned) in built.layers.iter().zip(&plan.layers) {
            let layer = &made.layer;
            let (size, tar) = (size(layer.descriptor.size), size(layer.tar_size));
            let (digest, name) = (layer.descriptor.digest, &planned.name);
            let entries = planned.tree().map(|tree| format!(", {}", counted(tree.len(), "entry")));
            self.watch.say(&format!("layer {digest}  {size} of {tar}{}  {name}", entries.unwrap_or_default()));
            if explains == Explains::Yes {
                self.watch.say(&format!("  {}", explain::line(made)));
            }
        }
        let all = &built.image.manifest.layers;
        let total: u64 = all.iter().map(|layer| layer.size).sum();
        self.watch.say(&format!(
            "image of {}, {}, in {}",
            counted(all.len(), "layer"),
            size(total),
            self.target.place()
        ));
    }
}

/// Returns the description of an index and of the images in it that were built, for programs.
fn index_to_json(index: &Descriptor, images: &[Made]) -> Value {
    let of_platform = |made: &Made| {
        let mut document = made.to_json();
        document["platform"] = made.built.image.config.platform().to_string().into();
        document
    };
    let mut document = index.to_json();
    document["platforms"] = images.iter().map(of_platform).collect();
    document
}

/// Whether the reason for each hit and miss of the cache is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Explains {
    Yes,
    No,
}

impl Made {
    /// Returns the description of the image for programs.
    fn to_json(&self) -> Value {
        let Made { plan, built } = self;
        let image = &built.image;
        let layers = built.layers.iter().zip(&plan.layers).map(|(made, planned)| {
            let layer = &made.layer;
            let mut described = layer.descriptor.to_json();
            described["diffId"] = layer.diff_id.to_string().into();
            described["tarSize"] = layer.tar_size.into();
            explain::add_to(&mut described, made);
            if let Some(tree) = planned.tree() {
                described["entries"] = tree.len().into();
            }
            described["createdBy"] = planned.created_by.as_str().into();
            described
        });
        json!({
            "digest": image.descriptor.digest.to_string(),
            "configDigest": image.manifest.config.digest.to_string(),
            "mediaType": image.descriptor.media_type,
            "size": image.descriptor.size,
            "baseLayers": plan.base.layers().len(),
            "compression": plan.compression.to_string(),
            "layers": layers.collect::<Vec<_>>(),
            "secrets": built.secrets.iter().map(FoundSecret::to_json).collect::<Vec<_>>(),
            "excluded": plan.excluded_to_json(),
            "pythonEnvironments": plan.python_environments_to_json(),
        })
    }
}

fn plan_lines(plan: &Plan, document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for layer in plan.base.layers() {
        lines.push(format!("base layer  {}  {}", layer.digest, size(layer.size)));
    }
    for layer in &plan.layers {
        let content = match layer.tree() {
            Some(tree) => format!("{}, {}", counted(tree.len(), "entry"), size(tree.content_size())),
            None => "from the cache".to_owned(),
        };
        lines.push(format!("new layer   {content}, {}  {}", plan.compression, layer.name));
    }
    lines.extend(excluded::lines(plan));
    lines.extend(relocated::lines(plan));
    let config = serde_json::to_string_pretty(&document["config"]).unwrap_or_default();
    lines.push(format!("config      {config}"));
    lines
}
