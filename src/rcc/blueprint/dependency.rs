//! A requirement of an environment, and RCC's rules for several of the same name.

/// A requirement: `python=3.10`, `rpaframework>=22,<23`, `--index-url x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The requirement as it was written, without white space around it.
    pub(super) text: String,
    pub(super) name: String,
    qualifier: String,
    version: String,
}

/// Two contradictory requirements of the same name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) kept: String,
    pub(super) refused: String,
}

impl Dependency {
    /// Parses a requirement. Returns `None` if RCC does not recognize it as one.
    ///
    /// RCC's pattern is `^([^<=~!> ]+)\s*(?:([<=~!>]*)\s*(\S+.*?))?$`: a name, an optional qualifier, an optional
    /// version, all on one line except for white space before the version.
    pub(super) fn parse(text: &str) -> Option<Dependency> {
        let text = text.trim();
        let is_qualifier = |c: char| matches!(c, '<' | '=' | '~' | '!' | '>');
        let is_white = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
        let name_end = text.find(|c: char| is_qualifier(c) || c == ' ').unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        if name.is_empty() {
            return None;
        }
        let rest = rest.trim_start_matches(is_white);
        let qualifier_end = rest.find(|c: char| !is_qualifier(c)).unwrap_or(rest.len());
        let (mut qualifier, mut version) = rest.split_at(qualifier_end);
        version = version.trim_start_matches(is_white);
        if version.is_empty() && !qualifier.is_empty() {
            // The pattern requires a version, so the last character of the qualifier becomes one.
            (qualifier, version) = qualifier.split_at(qualifier.len() - 1);
        }
        let is_one_line = !version.contains('\n');
        is_one_line.then(|| Dependency {
            text: text.to_owned(),
            name: name.to_owned(),
            qualifier: qualifier.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Converts it to pip's syntax: `name==version` for `name=version`, which only conda supports.
    pub(super) fn for_pip(mut self) -> Dependency {
        if self.qualifier == "=" {
            self.text = format!("{}=={}", self.name, self.version);
            self.qualifier = "==".to_owned();
        }
        self
    }

    /// Returns whether both are for the same package. Flags (`-r`, `--index-url`) never are.
    pub(super) fn is_same_as(&self, other: &Dependency) -> bool {
        !self.name.starts_with('-') && self.name == other.name
    }

    fn is_exact(&self) -> bool {
        !self.qualifier.is_empty() || !self.version.is_empty()
    }

    fn is_identical_to(&self, other: &Dependency) -> bool {
        self.name == other.name && self.qualifier == other.qualifier && self.version == other.version
    }

    /// Returns the more exact of two requirements for the same package; the earlier one if they are the same.
    pub(super) fn choose(&self, later: &Dependency) -> Result<Dependency, Conflict> {
        match (self.is_exact(), later.is_exact()) {
            (true, false) => Ok(self.clone()),
            (false, true) => Ok(later.clone()),
            _ if self.is_identical_to(later) => Ok(self.clone()),
            _ => Err(Conflict { kept: self.text.clone(), refused: later.text.clone() }),
        }
    }
}

/// Adds requirements to a list as RCC does: one per package, stopping at the first conflict.
pub(super) fn push_all(list: &mut Vec<Dependency>, more: Vec<Dependency>) -> Result<(), Conflict> {
    for dependency in more {
        match list.iter_mut().find(|present| present.is_same_as(&dependency)) {
            Some(present) => *present = present.choose(&dependency)?,
            None => list.push(dependency),
        }
    }
    Ok(())
}

/// Moves pip requirements to the conda requirements of the same name.
///
/// Stops at a conflict, and then leaves pip's list unchanged.
pub(super) fn promote(conda: &mut [Dependency], pip: &mut Vec<Dependency>) -> Result<(), Conflict> {
    let mut promoted = vec![false; pip.len()];
    for (moved, wanted) in promoted.iter_mut().zip(&*pip) {
        for present in conda.iter_mut().filter(|present| wanted.is_same_as(present)) {
            *moved = true;
            *present = present.choose(wanted)?;
        }
    }
    let mut moved = promoted.into_iter();
    pip.retain(|_| !moved.next().unwrap_or(false));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, String, String)> {
        Dependency::parse(text).map(|dependency| (dependency.name, dependency.qualifier, dependency.version))
    }

    fn expect(text: &str, name: &str, qualifier: &str, version: &str) {
        assert_eq!(parts(text), Some((name.to_owned(), qualifier.to_owned(), version.to_owned())), "{text:?}");
    }

    #[test]
    fn requirements_are_taken_apart_as_rccs_pattern_does() {
        expect("python", "python", "", "");
        expect(" python=3.10 ", "python", "=", "3.10");
        expect("a >= 1, < 2", "a", ">=", "1, < 2");
        expect("a 1.0 build", "a", "", "1.0 build");
        expect("a =", "a", "", "=");
        expect("a >=", "a", ">", "=");
        expect("a[x,y]~=1", "a[x,y]", "~=", "1");
        expect("-r file.txt", "-r", "", "file.txt");
        expect("a\nb", "a\nb", "", "");
        expect("a=\n1", "a", "=", "1");
        for none in ["", "  ", "=1", "~=x", "a=1\n2"] {
            assert_eq!(parts(none), None, "{none:?}");
        }
    }

    fn list(texts: &[&str]) -> Vec<Dependency> {
        texts.iter().map(|text| Dependency::parse(text).unwrap()).collect()
    }

    fn texts(list: &[Dependency]) -> Vec<&str> {
        list.iter().map(|dependency| dependency.text.as_str()).collect()
    }

    #[test]
    fn of_one_package_the_more_exact_requirement_wins_in_place() {
        let mut conda = Vec::new();
        push_all(&mut conda, list(&["a", "b=1", "a=2", "b", "b = 1", "-c x", "-c x"])).unwrap();
        assert_eq!(texts(&conda), ["a=2", "b=1", "-c x", "-c x"]);
    }

    #[test]
    fn a_conflict_drops_everything_after_it() {
        let mut conda = Vec::new();
        let conflict = push_all(&mut conda, list(&["python=3.9", "python=3.8", "zlib"])).unwrap_err();
        assert_eq!(texts(&conda), ["python=3.9"]);
        assert_eq!(conflict, Conflict { kept: "python=3.9".to_owned(), refused: "python=3.8".to_owned() });
    }

    #[test]
    fn promotion_ends_at_a_conflict_without_removing_anything() {
        let (mut conda, mut pip) = (list(&["a", "b"]), list(&["a==1", "c"]));
        promote(&mut conda, &mut pip).unwrap();
        assert_eq!((texts(&conda), texts(&pip)), (vec!["a==1", "b"], vec!["c"]));
        let (mut conda, mut pip) = (list(&["a", "b=1"]), list(&["a==1", "b==2", "c"]));
        promote(&mut conda, &mut pip).unwrap_err();
        assert_eq!((texts(&conda), texts(&pip)), (vec!["a==1", "b=1"], vec!["a==1", "b==2", "c"]));
    }
}
