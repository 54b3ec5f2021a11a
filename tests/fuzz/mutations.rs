//! Mutations of the seeds of a target.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Values at the limits of numbers.
const LIMITS: &[u64] = &[0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// The longest input, in bytes.
const LONGEST: usize = 64 << 10;

/// A seed and its mutations.
#[derive(Debug, Clone)]
pub(super) struct Mutated {
    seed: Vec<u8>,
    mutations: Vec<Mutation>,
}

#[derive(Debug, Clone)]
enum Mutation {
    /// Flips one bit.
    Flip(Index, u8),
    /// Replaces one byte.
    Replace(Index, u8),
    /// Replaces bytes by a number, in either order of bytes.
    Number { at: Index, value: u64, length: usize, is_big_endian: bool },
    /// Removes bytes.
    Remove(Index, usize),
    /// Repeats bytes.
    Repeat { at: Index, length: usize, times: usize },
    /// Moves bytes to another place.
    Move { from: Index, length: usize, to: Index },
    /// Inserts bytes.
    Insert(Index, Vec<u8>),
    /// Replaces bytes wherever they occur, such as a length in two headers.
    Everywhere { at: Index, length: usize, with: Vec<u8> },
    /// Removes the end.
    Cut(Index),
}

/// Returns inputs: a seed each, mutated a few times. Words of the format are inserted more often than other bytes.
pub(super) fn of_seeds(seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> impl Strategy<Value = Mutated> {
    let random = proptest::collection::vec(any::<u8>(), 1..9);
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).chain([b"\0".to_vec()]).collect();
    let bytes = prop_oneof![1 => random, 3 => select(words)].boxed();
    let at = any::<Index>;
    let mutation = prop_oneof![
        (at(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (at(), select(LIMITS), select(vec![2_usize, 4, 8]), any::<bool>())
            .prop_map(|(at, value, length, is_big_endian)| Mutation::Number { at, value, length, is_big_endian }),
        (at(), 1_usize..40).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (at(), 1_usize..40, 1_usize..200).prop_map(|(at, length, times)| Mutation::Repeat { at, length, times }),
        (at(), 1_usize..600, at()).prop_map(|(from, length, to)| Mutation::Move { from, length, to }),
        (at(), bytes.clone()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), 1_usize..9, bytes).prop_map(|(at, length, with)| Mutation::Everywhere { at, length, with }),
        at().prop_map(Mutation::Cut),
    ];
    (select(seeds), proptest::collection::vec(mutation, 0..6)).prop_map(|(seed, mutations)| Mutated { seed, mutations })
}

impl Mutated {
    /// Returns the seed with all mutations.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.seed.clone();
        for mutation in &self.mutations {
            if !bytes.is_empty() {
                mutation.apply(&mut bytes);
            }
            bytes.truncate(LONGEST);
        }
        bytes
    }
}

impl Mutation {
    /// Changes `bytes`, which are not empty.
    fn apply(&self, bytes: &mut Vec<u8>) {
        let size = bytes.len();
        let end = |begin: usize, length: usize| (begin + length).min(size);
        match self {
            Mutation::Flip(at, bit) => bytes[at.index(size)] ^= 1 << bit,
            Mutation::Replace(at, byte) => bytes[at.index(size)] = *byte,
            Mutation::Number { at, value, length, is_big_endian } => {
                let begin = at.index(size);
                let mut number = value.to_le_bytes()[..*length].to_vec();
                if *is_big_endian {
                    number.reverse();
                }
                number.truncate(size - begin);
                bytes[begin..begin + number.len()].copy_from_slice(&number);
            }
            Mutation::Remove(at, length) => {
                let begin = at.index(size);
                bytes.drain(begin..end(begin, *length));
            }
            Mutation::Repeat { at, length, times } => {
                let begin = at.index(size);
                let repeated = bytes[begin..end(begin, *length)].repeat(*times);
                bytes.splice(begin..begin, repeated);
            }
            Mutation::Move { from, length, to } => {
                let begin = from.index(size);
                let moved: Vec<u8> = bytes.drain(begin..end(begin, *length)).collect();
                let to = to.index(bytes.len() + 1);
                bytes.splice(to..to, moved);
            }
            Mutation::Insert(at, inserted) => {
                let begin = at.index(size + 1);
                bytes.splice(begin..begin, inserted.iter().copied());
            }
            Mutation::Everywhere { at, length, with } => {
                let begin = at.index(size);
                let wanted = bytes[begin..end(begin, *length)].to_vec();
                *bytes = replaced(bytes, &wanted, with);
            }
            Mutation::Cut(at) => bytes.truncate(at.index(size)),
        }
    }
}

/// Returns `bytes` with every occurrence of `wanted`, which is not empty, replaced.
fn replaced(bytes: &[u8], wanted: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(wanted) {
            Some(behind) => {
                out.extend_from_slice(with);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}
