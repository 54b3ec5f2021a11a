//! What the user chooses about the number of layers.

use crate::common::error::{Error, Result};
use std::str::FromStr;

/// The rule for splitting an environment, or the files of a copy, into layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Split {
    /// Where it is large enough, into a usual number of layers.
    #[default]
    WhereWorthIt,
    /// By packages, even if it is small.
    Packages,
    /// Not at all.
    Undivided,
    /// Into at most this many layers, even if it is small: 1 to 100.
    AtMost(u8),
}

/// The smallest environment in bytes that is worth splitting.
///
/// Measured on two cores, with one wheel after another: below this size, the update of one package saves less than 9 MB
/// and a quarter of a second, which is about the cost of the requests for the additional layers.
const WORTH_IT: u64 = 32 << 20;

/// The size in bytes up to which the files of a copy stay in one layer.
///
/// So many bytes are hashed again in a tenth of a second after an edit. docs/performance.md has the figures.
const LARGEST_OF_A_COPY: u64 = 64 << 20;

/// The same where layers were requested explicitly.
///
/// 4 MiB are little more than 1 MB in a layer, which takes as long to send as the requests for another layer.
const LARGEST_AS_REQUESTED: u64 = 4 << 20;

/// The default maximum number of layers of an environment.
const USUAL_MOST: u8 = 16;

/// The default maximum number of layers of a copy.
///
/// Of 1.3 GB most parts are then a twentieth or less, and a pull takes about as long as that of one layer.
const USUAL_MOST_OF_A_COPY: u8 = 32;

/// The maximum number of layers. Docker stacks 125, and the base and other content have some, too.
const MOST: u8 = 100;

/// The limits for cutting a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLimits {
    /// The maximum number of parts; not zero.
    pub most: u8,
    /// The size in bytes up to which a part is not cut.
    pub uncut: u64,
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Split::WhereWorthIt),
            ("packages", _) => Ok(Split::Packages),
            ("none", _) => Ok(Split::Undivided),
            (_, Ok(most @ 1..=MOST)) => Ok(Split::AtMost(most)),
            _ => Err(Error::usage(
                format!("`{text}`"),
                format!("not `auto`, `packages`, `none` or a number from 1 to {MOST}"),
            )),
        }
    }
}

impl Split {
    /// Returns the maximum number of layers for an environment of `size` bytes.
    pub(crate) fn most_layers(self, size: u64) -> u8 {
        match self {
            Split::WhereWorthIt if size < WORTH_IT => 1,
            Split::WhereWorthIt | Split::Packages => USUAL_MOST,
            Split::Undivided => 1,
            Split::AtMost(most) => most,
        }
    }

    /// Returns the limits for the files of a copy, where at most `room` layers fit.
    pub(crate) fn limits(self, room: usize) -> SplitLimits {
        let (most, uncut) = match self {
            Split::WhereWorthIt => (USUAL_MOST_OF_A_COPY, LARGEST_OF_A_COPY),
            Split::Packages => (USUAL_MOST_OF_A_COPY, LARGEST_AS_REQUESTED),
            Split::Undivided => (1, u64::MAX),
            Split::AtMost(most) => (most, LARGEST_AS_REQUESTED),
        };
        SplitLimits { most: most.min(u8::try_from(room).unwrap_or(MOST)).max(1), uncut }
    }

    /// Returns whether several layers were requested explicitly.
    pub(crate) fn is_asked_for(self) -> bool {
        matches!(self, Split::Packages | Split::AtMost(2..))
    }

    /// Returns bytes that distinguish this choice from others in a recipe.
    pub(crate) fn key(self) -> [u8; 2] {
        match self {
            Split::WhereWorthIt => [0, 0],
            Split::Packages => [1, 0],
            Split::Undivided => [2, 0],
            Split::AtMost(most) => [3, most],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_or_a_number_of_layers() {
        for (text, split) in [
            ("auto", Split::WhereWorthIt),
            ("packages", Split::Packages),
            ("none", Split::Undivided),
            ("1", Split::AtMost(1)),
            ("100", Split::AtMost(100)),
        ] {
            assert_eq!(text.parse::<Split>().unwrap(), split);
        }
        for bad in ["", "0", "101", "256", "-1", "all", "1.5"] {
            assert!(bad.parse::<Split>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_copy_has_no_more_layers_than_fit() {
        assert_eq!(Split::WhereWorthIt.limits(1000).most, 32);
        assert_eq!(Split::AtMost(100).limits(1000).most, 100);
        assert_eq!(Split::AtMost(100).limits(7).most, 7);
        assert_eq!(Split::Packages.limits(0).most, 1);
        assert_eq!(Split::Undivided.limits(1000).most, 1);
    }
}
