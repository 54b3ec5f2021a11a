//! One pass over a text, for everything that a secret may begin or be named with.

use super::files::ValueStyle;
use super::{SecretMatch, url};
use crate::secrets::{named_values, token_formats};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::ops::Range;
use std::sync::LazyLock;

/// The kinds of secrets to search for.
#[derive(Debug, Clone, Copy)]
enum Trigger {
    Url,
    PrivateKey,
    WebToken,
    Authorization(&'static str),
    Token(usize),
    Name,
}

struct Searcher {
    automaton: Option<AhoCorasick>,
    triggers: Vec<Trigger>,
}

/// Everything that a secret of a known form begins with.
fn form_patterns() -> impl Iterator<Item = (&'static str, Trigger)> {
    let fixed = [
        ("://", Trigger::Url),
        ("-----BEGIN", Trigger::PrivateKey),
        ("eyJ", Trigger::WebToken),
        ("basic ", Trigger::Authorization("basic ")),
        ("bearer ", Trigger::Authorization("bearer ")),
    ];
    let tokens = token_formats::prefixes().enumerate().map(|(number, prefix)| (prefix, Trigger::Token(number)));
    fixed.into_iter().chain(tokens)
}

static SEARCHER: LazyLock<Searcher> = LazyLock::new(|| {
    let names = named_values::ENDINGS.iter().map(|ending| (*ending, Trigger::Name));
    let (patterns, triggers): (Vec<_>, Vec<_>) = form_patterns().chain(names).unzip();
    // The patterns are constants that the tests search with, so building succeeds.
    let automaton =
        AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(patterns).ok();
    Searcher { automaton, triggers }
});

/// In a text of at most this many bytes, each form is searched for by itself. That takes microseconds, and building the
/// automaton one of the four milliseconds of a small unchanged build.
const SHORT: usize = 1 << 10;

/// Finds everything in `content`, in any order. Spans may overlap.
pub(super) fn search(content: &[u8], style: ValueStyle) -> Vec<SecretMatch> {
    let mut found = Vec::new();
    each(content, |trigger, hit| match trigger {
        Trigger::Name => found.extend(named_values::value(content, hit.end, style)),
        form => of_form(content, form, hit, style, &mut found),
    });
    found
}

/// Finds what is known by its form alone.
pub(super) fn forms(content: &[u8], style: ValueStyle) -> Vec<SecretMatch> {
    let mut found = Vec::new();
    if content.len() > SHORT {
        each(content, |trigger, hit| of_form(content, trigger, hit, style, &mut found));
        return found;
    }
    let lower = content.to_ascii_lowercase();
    for (pattern, trigger) in form_patterns() {
        for at in memchr::memmem::find_iter(&lower, &pattern.to_ascii_lowercase()) {
            of_form(content, trigger, at..at + pattern.len(), style, &mut found);
        }
    }
    found
}

fn each(content: &[u8], mut take: impl FnMut(Trigger, Range<usize>)) {
    let Searcher { automaton, triggers } = &*SEARCHER;
    for hit in automaton.iter().flat_map(|automaton| automaton.find_overlapping_iter(content)) {
        take(triggers[hit.pattern().as_usize()], hit.range());
    }
}

fn of_form(content: &[u8], trigger: Trigger, hit: Range<usize>, style: ValueStyle, found: &mut Vec<SecretMatch>) {
    match trigger {
        Trigger::Url => url::search(content, hit.start, style, found),
        Trigger::PrivateKey => found.extend(token_formats::private_key(content, hit.start)),
        Trigger::WebToken => found.extend(token_formats::web_token(content, hit.start)),
        Trigger::Authorization(scheme) => {
            found.extend(token_formats::authorization(content, hit.end, scheme.as_bytes()))
        }
        Trigger::Token(number) => found.extend(token_formats::token(content, hit.start, number)),
        Trigger::Name => {}
    }
}
