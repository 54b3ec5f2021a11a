//! `ocibuild diff`.

use super::cache_directory::CacheDirectory;
use super::diff_json::JsonDifferences;
use super::diff_output::DifferenceOutput;
use super::diff_text::TextDifferences;
use super::found_difference::FoundDifference;
use super::network::NetworkArguments;
use super::open_document::open_document;
use super::output::write_stdout;
use super::progress_display::Watch;
use super::{Common, OutputFormat};
use clap::{Args, ValueEnum};
use ocibuild::layers::difference::{
    DocumentComparison, DocumentPart, IgnoredDifference, IgnoredDifferences, ImageComparison, MemberDifference,
};
use ocibuild::layers::rootfs::Listings;
use ocibuild::store::{DocumentContent, StoredDocument};
use ocibuild::{Error, Platform, Result};
use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// The exit status of every error, as of `diff` and `cmp`: 1 says that the images differ.
pub(super) const TROUBLE: u8 = 2;
/// The most files that are printed without `--limit`.
const MOST_FILES: usize = 100;
/// The maximum nesting depth of indexes.
const DEEPEST_INDEX: usize = 4;

#[derive(Debug, Args)]
#[command(after_help = "\
Compares documents, layers and files, and says why the bytes of layers differ. Lines begin with +
for what only B has, - for what only A has, and ~ for what differs. The images of several platforms
are compared one by one. Names are not compared. Layers of both images are only fetched if a file
of one has to be compared.

Exits with status 0 if the digests are equal, 1 if the images differ, and 2 for an error. With
--ignore, exits with status 0 if no other difference is found. --quiet prints nothing.

Examples:
  ocibuild diff ./out:v1 ./out:v2
  ocibuild diff ./out:v1 registry.example.com/team/app:v1 --stat
  ocibuild diff ./out:v1 ./out:v2 --ignore times,storage,history
  ocibuild diff ./out:v1 ./out:v2 --format json | jq -r '.[] | select(.part == \"file\") | .name'")]
pub(super) struct DiffArguments {
    /// First image, in any form that `inspect` takes (see docs/images.md)
    #[arg(value_name = "A")]
    before: String,
    /// Second image
    #[arg(value_name = "B")]
    after: String,
    /// Compare only the images for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Leave out differences of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    ignore: Vec<IgnoredKind>,
    /// Print only the numbers of differences
    #[arg(long)]
    stat: bool,
    /// Print at most N files; 0 prints all of them [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    cache: CacheDirectory,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The kinds of differences that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IgnoredKind {
    /// Modification times of files, and times in documents
    Times,
    /// How files are stored: division into layers, order, tar headers, compression, media types
    Storage,
    /// Annotations of the manifest and of the index entry
    Annotations,
    /// The history
    History,
}

/// Prints the differences between two images.
pub(super) fn run(arguments: &DiffArguments) -> Result<ExitCode> {
    let is_quiet = arguments.common.quiet;
    let is_json = arguments.common.format == OutputFormat::Json;
    arguments.check()?;
    arguments.network.refuse_policy("diff")?;
    let watch = Arc::new(Watch::new(&arguments.common));
    let open =
        |text: &str| open_document(text, arguments.platform.as_ref(), &arguments.cache, &arguments.network, &watch);
    let documents = [open(&arguments.before)?, open(&arguments.after)?];
    let run = DiffRun {
        ignored: arguments.ignore.iter().map(|kind| kind.meaning()).collect(),
        listings: arguments.cache.open().and_then(|cache| Listings::in_cache_directory(&cache)).ok(),
        watch,
        is_different: Cell::new(false),
    };
    let [before, after] = &documents;
    if is_quiet && run.ignored.is_empty() && !is_json {
        let members = DocumentComparison::new(before, after, &run.ignored)?.members;
        run.is_different.set(before.descriptor.digest != after.descriptor.digest || !members.is_empty());
    } else {
        let text = match arguments.limit {
            _ if is_quiet => TextDifferences::silent(),
            _ if arguments.stat => TextDifferences::only_numbers(),
            limit => TextDifferences::with_files(limit.unwrap_or(MOST_FILES)),
        };
        let output = match is_json {
            true => DifferenceOutput::Json(JsonDifferences::default()),
            false => DifferenceOutput::Text(text),
        };
        write_stdout(|out| {
            let mut printer = DifferencePrinter { output, out, count: 0, is_different: &run.is_different };
            run.compare(before, after, DEEPEST_INDEX, &mut printer)?;
            printer.output.end(printer.out)
        })?;
    }
    Ok(if run.is_different.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl DiffArguments {
    /// Refuses flags that would have no effect.
    fn check(&self) -> Result<()> {
        let is_json = self.common.format == OutputFormat::Json;
        let without_effect = |flag: &str, other: &str| Err(Error::usage(flag, format!("has no effect with {other}")));
        let given = [(self.stat, "--stat"), (self.limit.is_some(), "--limit")];
        match given.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) if is_json => without_effect(flag, "--format json, which prints all differences"),
            Some((_, flag)) if self.common.quiet => without_effect(flag, "--quiet"),
            Some(_) if self.stat && self.limit.is_some() => without_effect("--limit", "--stat"),
            _ => Ok(()),
        }
    }
}

impl IgnoredKind {
    fn meaning(self) -> IgnoredDifference {
        match self {
            IgnoredKind::Times => IgnoredDifference::Times,
            IgnoredKind::Storage => IgnoredDifference::Storage,
            IgnoredKind::Annotations => IgnoredDifference::Annotations,
            IgnoredKind::History => IgnoredDifference::History,
        }
    }
}

/// What the comparisons of one run have in common.
struct DiffRun {
    ignored: IgnoredDifferences,
    listings: Option<Listings>,
    watch: Arc<Watch>,
    is_different: Cell<bool>,
}

/// Prints and counts differences.
struct DifferencePrinter<'a> {
    output: DifferenceOutput,
    out: &'a mut dyn Write,
    count: usize,
    is_different: &'a Cell<bool>,
}

impl DifferencePrinter<'_> {
    fn print(&mut self, found: &FoundDifference<'_>) -> io::Result<()> {
        if found.counts() {
            self.count += 1;
            // Before it is written, since a reader that has gone away ends the comparison.
            self.is_different.set(true);
        }
        self.output.write(found, self.out)
    }
}

impl DiffRun {
    fn compare(
        &self,
        before: &StoredDocument,
        after: &StoredDocument,
        depth: usize,
        printer: &mut DifferencePrinter<'_>,
    ) -> io::Result<()> {
        let start = printer.count;
        let documents = DocumentComparison::new(before, after, &self.ignored)?;
        let has_other_digest = before.descriptor.digest != after.descriptor.digest;
        // Before anything is printed, so that a layer that cannot be read does not leave half of the output.
        let images = match (&before.content, &after.content) {
            (DocumentContent::Image(one), DocumentContent::Image(other)) if has_other_digest => {
                let (images, listings) = ([&**one, &**other], self.listings.as_ref());
                Some(ImageComparison::new(images, &self.ignored, listings, &*self.watch)?)
            }
            _ => None,
        };
        for member in &documents.members {
            printer.print(&FoundDifference::Member(member))?;
        }
        if let Some(comparison) = &images {
            print_image(comparison, printer)?;
        }
        let has_no_name = printer.count == start && documents.platforms.is_empty();
        if has_other_digest && has_no_name && self.ignored.is_empty() {
            let part = match before.content {
                DocumentContent::Index(_) => DocumentPart::Index,
                DocumentContent::Image(_) | DocumentContent::Artifact => DocumentPart::Manifest,
            };
            printer.print(&FoundDifference::Member(&MemberDifference::of_bytes(part)))?;
        }
        let Some(depth) = depth.checked_sub(1) else {
            let reason = format!("nesting of indexes deeper than {DEEPEST_INDEX}");
            return Err(Error::invalid("index", reason).into());
        };
        for (platform, [one, other]) in &documents.platforms {
            printer.print(&FoundDifference::Platform(platform))?;
            self.compare(one, other, depth, printer)?;
        }
        Ok(())
    }
}

fn print_image(comparison: &ImageComparison<'_>, printer: &mut DifferencePrinter<'_>) -> io::Result<()> {
    for layer in comparison.layers() {
        printer.print(&FoundDifference::Layer(layer))?;
    }
    if let Some(reason) = comparison.unreadable() {
        printer.print(&FoundDifference::Unreadable(&reason))?;
    }
    for file in comparison.files().into_iter().flatten() {
        printer.print(&FoundDifference::File(&file?))?;
    }
    Ok(())
}
