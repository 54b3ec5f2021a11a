//! One pass over a text, for everything that a secret may begin or be named with.

use super::files::Style;
use super::{Found, forms, named, url};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::ops::Range;
use std::sync::LazyLock;

/// What is looked for.
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

static SEARCHER: LazyLock<Searcher> = LazyLock::new(|| {
    let fixed = [
        ("://", Trigger::Url),
        ("-----BEGIN", Trigger::PrivateKey),
        ("eyJ", Trigger::WebToken),
        ("basic ", Trigger::Authorization("basic ")),
        ("bearer ", Trigger::Authorization("bearer ")),
    ];
    let tokens = forms::prefixes().enumerate().map(|(number, prefix)| (prefix, Trigger::Token(number)));
    let names = named::ENDINGS.iter().map(|ending| (*ending, Trigger::Name));
    let (patterns, triggers): (Vec<_>, Vec<_>) = fixed.into_iter().chain(tokens).chain(names).unzip();
    let automaton =
        AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(patterns).ok();
    Searcher { automaton, triggers }
});

/// Finds everything in `content`, in any order and with overlaps.
pub(super) fn search(content: &[u8], style: Style) -> Vec<Found> {
    let mut found = Vec::new();
    each(content, |trigger, hit| match trigger {
        Trigger::Name => found.extend(named::value(content, hit.end, style)),
        form => of_form(content, form, hit, style, &mut found),
    });
    found
}

/// Finds what is known by its form alone.
pub(super) fn forms(content: &[u8], style: Style) -> Vec<Found> {
    let mut found = Vec::new();
    each(content, |trigger, hit| of_form(content, trigger, hit, style, &mut found));
    found
}

fn each(content: &[u8], mut take: impl FnMut(Trigger, Range<usize>)) {
    let Searcher { automaton, triggers } = &*SEARCHER;
    for hit in automaton.iter().flat_map(|automaton| automaton.find_overlapping_iter(content)) {
        take(triggers[hit.pattern().as_usize()], hit.range());
    }
}

fn of_form(content: &[u8], trigger: Trigger, hit: Range<usize>, style: Style, found: &mut Vec<Found>) {
    match trigger {
        Trigger::Url => url::search(content, hit.start, style, found),
        Trigger::PrivateKey => found.extend(forms::private_key(content, hit.start)),
        Trigger::WebToken => found.extend(forms::web_token(content, hit.start)),
        Trigger::Authorization(scheme) => found.extend(forms::authorization(content, hit.end, scheme.as_bytes())),
        Trigger::Token(number) => found.extend(forms::token(content, hit.start, number)),
        Trigger::Name => {}
    }
}
