//! Selects the catalog that a robot needs, and describes the nearest ones if it is missing.

use super::{BLUEPRINT_FILE, Blueprint, Catalog, CatalogEntryKind, CatalogLimits, CatalogName, Hololib};
use crate::common::bounded_read;
use crate::common::error::{Error, ErrorKind, Result};
use crate::common::progress;
use crate::common::progress::{Progress, Silent};
use crate::secrets::Redacted;
use crate::spec::Platform;
use std::collections::BTreeMap;
use std::fmt;

/// The file in which an environment keeps the variables that RCC sets for it.
const ACTIVATION_FILE: &str = "rcc_activate.json";

/// The size limit of a blueprint that is compared, in bytes.
const BLUEPRINT_LIMIT: u64 = 1 << 20;

/// The number of near catalogs in an error, and of the lines shown of each.
const NEAREST_SHOWN: usize = 2;
const LINES_SHOWN: usize = 6;

/// A catalog for another blueprint, and how that differs from the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearCatalog {
    /// The name of the catalog.
    pub name: CatalogName,
    /// Lines of the wanted blueprint that the catalog's blueprint lacks.
    pub lacks: Vec<String>,
    /// Lines of the catalog's blueprint that the wanted one lacks.
    pub has: Vec<String>,
}

impl fmt::Display for NearCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = self.lacks.iter().map(|line| format!("`+ {}`", Redacted::foreign(line)));
        let has = self.has.iter().map(|line| format!("`- {}`", Redacted::foreign(line)));
        let lines: Vec<String> = lacks.chain(has).collect();
        f.write_str(&lines.iter().take(LINES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))?;
        match lines.len().saturating_sub(LINES_SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more lines"),
        }
    }
}

impl Hololib {
    /// Finds the catalog that RCC would use for `blueprint` on `platform`.
    ///
    /// `command` is the command that creates the catalog; the error ends with it if the catalog does not exist.
    ///
    /// # Errors
    /// Returns an error if there is no such catalog, if it cannot be read, or if objects that it names are missing.
    pub fn find(
        &self,
        blueprint: &Blueprint,
        platform: &Platform,
        command: &str,
        limits: &CatalogLimits,
        watcher: &dyn Progress,
    ) -> Result<Catalog> {
        let catalog = self.catalog(&self.locate(blueprint, platform, command, limits)?, limits, watcher)?;
        self.check_complete(&catalog)?;
        warn_of_layer(&catalog, watcher);
        Ok(catalog)
    }

    /// Finds the name of the catalog that RCC would use, without reading it.
    ///
    /// # Errors
    /// Returns an error if there is no such catalog.
    pub fn locate(
        &self,
        blueprint: &Blueprint,
        platform: &Platform,
        command: &str,
        limits: &CatalogLimits,
    ) -> Result<CatalogName> {
        let names = self.catalogs()?;
        let wanted = CatalogName { blueprint: blueprint.hash().clone(), platform: go_platform(platform) };
        if names.contains(&wanted) {
            return Ok(wanted);
        }
        Err(self.not_here(&wanted, &names, blueprint, platform, command, limits))
    }

    /// Selects a catalog by its name or blueprint; without either, the only one for `platform`.
    ///
    /// # Errors
    /// Returns an error if no catalog matches, or several do.
    pub fn choose(&self, selector: Option<&str>, platform: &Platform) -> Result<CatalogName> {
        if let Some(name) = selector.filter(|selector| selector.contains('.')) {
            let name = CatalogName::parse(name)?;
            let is_here = self.catalogs()?.contains(&name);
            let missing = || Error::new(ErrorKind::NotFound, self.shown(), format!("no catalog {name}"));
            return if is_here { Ok(name) } else { Err(missing()) };
        }
        let all = self.catalogs()?;
        let by_blueprint = |name: &&CatalogName| selector.is_none_or(|hash| name.blueprint.to_string() == hash);
        let candidates: Vec<&CatalogName> = all.iter().filter(by_blueprint).collect();
        let marker = go_platform(platform);
        let fitting: Vec<&CatalogName> = candidates.iter().copied().filter(|name| name.platform == marker).collect();
        match (&fitting[..], &candidates[..]) {
            ([only], _) => Ok((*only).clone()),
            ([], []) => {
                let wanted =
                    selector.map_or_else(|| "no catalog".to_owned(), |hash| format!("no catalog for blueprint {hash}"));
                Err(Error::new(ErrorKind::NotFound, self.shown(), wanted))
            }
            ([], others) => {
                let reason = format!("no catalog for {platform}, only {}", listed(others));
                Err(Error::new(ErrorKind::NotFound, self.shown(), reason))
            }
            (several, _) => {
                let reason = format!("{} catalogs: {}", several.len(), listed(several));
                Err(Error::new(ErrorKind::Usage, self.shown(), reason).hint("choose one by its name"))
            }
        }
    }

    /// Checks that all objects that `catalog` names exist; RCC would not restore it otherwise.
    ///
    /// # Errors
    /// Returns an error if objects are missing, or cannot be looked for.
    pub fn check_complete(&self, catalog: &Catalog) -> Result<()> {
        let missing = self.missing(catalog)?;
        let Some(first) = missing.first() else { return Ok(()) };
        let reason = format!(
            "{} of its {} library files are missing, the first is {}",
            missing.len(),
            catalog.objects().len(),
            first.digest.library_path()
        );
        let error = Error::new(ErrorKind::NotFound, format!("catalog {}", catalog.name()), reason);
        Err(error.hint("--resolve records the environment again"))
    }

    /// Returns the catalogs for `platform`, those with the blueprints most similar to `blueprint` first.
    ///
    /// Catalogs that cannot be read are skipped.
    ///
    /// # Errors
    /// Returns an error if the catalogs cannot be listed.
    pub fn nearest(
        &self,
        blueprint: &Blueprint,
        platform: &Platform,
        limits: &CatalogLimits,
    ) -> Result<Vec<NearCatalog>> {
        let marker = go_platform(platform);
        let mut near: Vec<NearCatalog> = Vec::new();
        for name in self.catalogs()?.into_iter().filter(|name| name.platform == marker) {
            near.extend(self.differences(blueprint, &name, limits));
        }
        near.sort_by_key(|catalog| (catalog.lacks.len() + catalog.has.len(), catalog.name.clone()));
        Ok(near)
    }

    /// Compares `blueprint` with that of the catalog called `name`. Returns `None` if that cannot be read.
    pub fn differences(
        &self,
        blueprint: &Blueprint,
        name: &CatalogName,
        limits: &CatalogLimits,
    ) -> Option<NearCatalog> {
        let catalog = self.catalog(name, limits, &Silent).ok()?;
        let other = self.recorded_blueprint(&catalog).ok()?;
        let (lacks, has) = differing_lines(blueprint.text(), other.text());
        Some(NearCatalog { name: name.clone(), lacks, has })
    }

    /// Reads the blueprint that an environment stores in itself.
    ///
    /// # Errors
    /// Returns an error if the environment has none, or it cannot be read.
    pub fn recorded_blueprint(&self, catalog: &Catalog) -> Result<Blueprint> {
        let object = format!("catalog {}: `{BLUEPRINT_FILE}`", catalog.name());
        let Some(CatalogEntryKind::File(file)) = catalog.entry(BLUEPRINT_FILE).map(|entry| entry.kind) else {
            return Err(Error::new(ErrorKind::NotFound, object, "not found"));
        };
        let stored = self.object(&file.named_object())?;
        let bytes = bounded_read::read(stored.content()?, BLUEPRINT_LIMIT, &object)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::invalid(object, "not UTF-8"))?;
        Ok(Blueprint::of_text(text.trim().to_owned()))
    }

    fn not_here(
        &self,
        wanted: &CatalogName,
        names: &[CatalogName],
        blueprint: &Blueprint,
        platform: &Platform,
        command: &str,
        limits: &CatalogLimits,
    ) -> Error {
        let object = format!("blueprint {}", wanted.blueprint);
        let others: Vec<&CatalogName> = names.iter().filter(|name| name.blueprint == wanted.blueprint).collect();
        let mut reason = format!("no catalog for {platform} in {}", self.shown());
        if !others.is_empty() {
            reason.push_str(&format!(", only {}", listed(&others)));
        }
        // Only for the message: an error here must not hide that the catalog is missing.
        let nearest = self.nearest(blueprint, platform, limits).unwrap_or_default();
        for near in nearest.iter().take(NEAREST_SHOWN) {
            reason.push_str(&format!("; most similar is {}: {near}", near.name.blueprint));
        }
        let hint = match others.is_empty() {
            true => format!("run `{command}`, or use --resolve"),
            // RCC records environments only for the platform on which it runs.
            false => format!("on a {platform} machine, run `{command}`"),
        };
        Error::new(ErrorKind::NotFound, object, reason).hint(hint)
    }
}

/// Warns about a catalog that was recorded as a layer of another environment.
///
/// RCC also records the layers below an environment. Such a layer runs, but no variables are set up in it.
pub(crate) fn warn_of_layer(catalog: &Catalog, watcher: &dyn Progress) {
    if catalog.entry(ACTIVATION_FILE).is_none() {
        let reason = format!("no `{ACTIVATION_FILE}`: it was recorded as a layer of another environment");
        progress::warn(watcher, &format!("catalog {}", catalog.name()), &reason);
    }
}

/// Returns a platform as RCC writes it in the names of catalogs.
fn go_platform(platform: &Platform) -> String {
    format!("{}_{}", platform.os(), platform.architecture())
}

fn listed(names: &[&CatalogName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the lines of `wanted` that `present` lacks and vice versa, without their list markers.
fn differing_lines(wanted: &str, present: &str) -> (Vec<String>, Vec<String>) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in wanted.lines() {
        *counts.entry(line).or_default() += 1;
    }
    for line in present.lines() {
        *counts.entry(line).or_default() -= 1;
    }
    let plain = |line: &str| line.trim_start_matches([' ', '-']).to_owned();
    let mut only_in = |text: &str, sign: i64| {
        let mut lines = Vec::new();
        for line in text.lines() {
            if let Some(count) = counts.get_mut(line).filter(|count| **count * sign > 0) {
                *count -= sign;
                lines.push(plain(line));
            }
        }
        lines
    };
    (only_in(wanted, 1), only_in(present, -1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blueprints_are_compared_line_by_line() {
        let wanted = "channels:\n- conda-forge\ndependencies:\n- python=3.11\n- pip:\n  - a==1\n  - b==1";
        let present = "channels:\n- conda-forge\ndependencies:\n- python=3.10\n- pip:\n  - a==1";
        let (lacks, has) = differing_lines(wanted, present);
        assert_eq!((lacks, has), (vec!["python=3.11".to_owned(), "b==1".to_owned()], vec!["python=3.10".to_owned()]));
        assert_eq!(differing_lines(wanted, wanted), (Vec::new(), Vec::new()));
    }
}
