//! Checks of the programs and native modules of layers that were just built: whether they can run in the image.

use super::linking::ElfFile;
use super::loaders::Loaders;
use super::runtime_checks::{missing_loader, program_of};
use crate::common::progress::{Progress, warn};
use crate::layers::tree::{Entry, Kind, Tree};
use crate::spec::{ImagePath, Platform};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// A reason why a file cannot run in the image.
struct ProgramProblem {
    kind: ProblemKind,
    /// What is wrong with the file.
    what: String,
    /// Why that is wrong, with what helps.
    why: String,
}

/// The kinds of problems, each of which has one warning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ProblemKind {
    Foreign,
    WithoutLoader,
    NativeModule,
}

/// The files with a problem of one kind: the first one, and the number of the others.
struct AffectedFiles {
    path: ImagePath,
    problem: ProgramProblem,
    others: usize,
}

type FoundProblems = BTreeMap<ProblemKind, AffectedFiles>;

/// Warns about programs for another processor, programs whose loader the image does not have, and native modules of Node for another
/// platform or C library. Each warning names the first file.
pub(super) fn warn_of_programs(trees: &[&Tree], platform: &Platform, loaders: Loaders, progress: &dyn Progress) {
    let judged = |entry: Entry| {
        let problem = problem_of(&entry, platform, loaders)?;
        Some(FoundProblems::from([(problem.kind, AffectedFiles { path: entry.path, problem, others: 0 })]))
    };
    // Joined at once, so that the memory does not grow with the number of files.
    let in_tree = |tree: &&Tree| tree.par_entries().filter_map(judged).reduce(FoundProblems::new, joined);
    let found = trees.iter().map(in_tree).fold(FoundProblems::new(), joined);
    for AffectedFiles { path, problem: ProgramProblem { what, why, .. }, others } in found.into_values() {
        let others = match others {
            0 => String::new(),
            count => format!("; so are {count} others"),
        };
        warn(progress, &path.to_string(), &format!("{what}{others}, {why}"));
    }
}

/// Adds the problems of later files.
fn joined(mut found: FoundProblems, later: FoundProblems) -> FoundProblems {
    for (kind, files) in later {
        match found.entry(kind) {
            Slot::Vacant(slot) => drop(slot.insert(files)),
            Slot::Occupied(mut slot) => slot.get_mut().others += 1 + files.others,
        }
    }
    found
}

fn problem_of(entry: &Entry, platform: &Platform, loaders: Loaders) -> Option<ProgramProblem> {
    if is_native_module(entry) {
        return problem_of_module(entry, platform, loaders);
    }
    if entry.attributes.mode & 0o111 == 0 {
        return None;
    }
    if let Some(foreign) = program_of(entry)?.foreign_to(platform.architecture()) {
        let (what, why) = (format!("is a program for {foreign}"), format!("and the image is for {platform}"));
        return Some(ProgramProblem { kind: ProblemKind::Foreign, what, why });
    }
    let loader = ElfFile::of(entry)?.loader()?;
    let why = missing_loader(loaders.missing(&loader)?);
    Some(ProgramProblem { kind: ProblemKind::WithoutLoader, what: format!("needs {loader}"), why })
}

/// Returns whether a file is a native module of Node. Packages with modules for several platforms choose among `prebuilds`.
fn is_native_module(entry: &Entry) -> bool {
    entry.path.name().ends_with(b".node") && !entry.path.names().any(|name| name == b"prebuilds")
}

fn problem_of_module(entry: &Entry, platform: &Platform, loaders: Loaders) -> Option<ProgramProblem> {
    let hint = "(run `npm ci` in a container of the base)";
    let program = program_of(entry)?;
    let foreign = program.foreign_to(platform.architecture()).or_else(|| system_of(entry));
    let (other, has) = match foreign {
        Some(foreign) => (foreign, format!("is for {platform}")),
        None => {
            let libc = ElfFile::of(entry)?.libc()?;
            (libc.name(), format!("has {}", loaders.other_than(libc)?.name()))
        }
    };
    let (what, why) = (format!("is a native module for {other}"), format!("and the image {has} {hint}"));
    Some(ProgramProblem { kind: ProblemKind::NativeModule, what, why })
}

/// Returns the system whose format of programs a file has, if it is not Linux.
fn system_of(entry: &Entry) -> Option<&'static str> {
    let Kind::File { size, content } = &entry.kind else { return None };
    let mut start = Vec::new();
    content.append(0, 4.min(usize::try_from(*size).ok()?), *size, &mut start).ok()?;
    match start[..] {
        [0xcf, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] => Some("macOS"),
        [b'M', b'Z', ..] => Some("Windows"),
        _ => None,
    }
}
