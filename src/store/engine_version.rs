//! The version of an engine, which decides what layers it reads.

use super::engine::{EngineAnswer, EngineProgram, EngineStore};
use crate::common::error::{Error, Result};
use std::fmt;

/// The longest version that is shown, in bytes.
const LONGEST_VERSION: usize = 40;

/// A program of an engine, and the version of its daemon where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    program: EngineProgram,
    version: String,
}

impl EngineProgram {
    /// Returns the arguments that print the version. A daemon reads the layers, so its version counts.
    fn to_show_version(self) -> &'static [&'static str] {
        match self {
            EngineProgram::Docker => &["version", "--format", "{{.Server.Version}}"],
            EngineProgram::Podman => {
                &["version", "--format", "{{with .Server}}{{.Version}}{{else}}{{.Client.Version}}{{end}}"]
            }
            EngineProgram::Ctr => &["version"],
        }
    }

    /// Returns the first version that reads zstd, in its first two numbers.
    fn first_with_zstd(self) -> (u32, u32) {
        match self {
            EngineProgram::Docker => (23, 0),
            EngineProgram::Podman => (4, 0),
            EngineProgram::Ctr => (1, 6),
        }
    }
}

impl EngineStore {
    /// Asks the engine for its version.
    ///
    /// # Errors
    /// Fails if no program is found, it fails (as without its daemon), or prints no version.
    pub fn version(&self) -> Result<EngineVersion> {
        let EngineAnswer { program, object, output } = self.run(EngineProgram::to_show_version, &|_| Vec::new())?;
        EngineVersion::read(program, &output).ok_or_else(|| Error::invalid(object, "printed no version"))
    }
}

impl EngineVersion {
    fn read(program: EngineProgram, output: &str) -> Option<Self> {
        let text = match program {
            EngineProgram::Docker | EngineProgram::Podman => output,
            // The version of the client comes first.
            EngineProgram::Ctr => output.split_once("Server:")?.1.split_once("Version:")?.1,
        };
        let version = text.split_whitespace().next()?;
        let is_shown = version.len() <= LONGEST_VERSION && version.bytes().all(|byte| byte.is_ascii_graphic());
        is_shown.then(|| EngineVersion { program, version: version.to_owned() })
    }

    /// Returns whether the engine is known to read zstd layers. Of a version that has no number, nothing is known.
    pub fn reads_zstd(&self) -> bool {
        let version = self.version.strip_prefix('v').unwrap_or(&self.version);
        let mut numbers = version.split('.').map(|part| {
            let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse::<u32>().ok()
        });
        let Some(Some(major)) = numbers.next() else { return false };
        let minor = numbers.next().flatten().unwrap_or(0);
        (major, minor) >= self.program.first_with_zstd()
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.name(), self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::{EngineProgram, EngineVersion};

    #[test]
    fn versions_say_what_an_engine_reads() {
        let reads_zstd =
            |program, output: &str| EngineVersion::read(program, output).map(|version| version.reads_zstd());
        for (version, reads) in [
            ("20.10.24+dfsg1", false),
            ("22.99", false),
            ("23.0.0-rc.1", true),
            ("28.5.2", true),
            ("v24", true),
            ("100", true),
            ("dev", false),
            ("library-import", false),
            ("99999999999.1", false),
        ] {
            assert_eq!(reads_zstd(EngineProgram::Docker, &format!("{version}\n")), Some(reads), "{version}");
        }
        assert_eq!(reads_zstd(EngineProgram::Podman, "3.4.4"), Some(false));
        assert_eq!(reads_zstd(EngineProgram::Podman, "4.3.1\n"), Some(true));
        let ctr = |client: &str, server: &str| {
            format!("Client:\n  Version:  {client}\n  Revision: 1\n\nServer:\n  Version:  {server}\n  UUID: 1\n")
        };
        assert_eq!(reads_zstd(EngineProgram::Ctr, &ctr("1.4.1", "1.6.20~ds1")), Some(true));
        assert_eq!(reads_zstd(EngineProgram::Ctr, &ctr("2.1.0", "1.5.9")), Some(false));
        assert_eq!(reads_zstd(EngineProgram::Ctr, "Client:\n  Version:  2.1.0\n"), None);
    }

    #[test]
    fn what_is_no_version_is_not_shown() {
        for output in ["", " \n", "\u{1b}[31m", &"1".repeat(41)] {
            assert_eq!(EngineVersion::read(EngineProgram::Docker, output), None, "{output:?}");
        }
        let shown = EngineVersion::read(EngineProgram::Podman, "5.8.6 \n").map(|version| version.to_string());
        assert_eq!(shown.as_deref(), Some("podman 5.8.6"));
    }
}
