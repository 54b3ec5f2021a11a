//! The language of documents: plain technical English, with the words that readers search for.

use super::Page;

/// Words of a dialect that documents once used, with the words to use instead.
const HUNTED: [(&str, &str); 19] = [
    ("anew", "again"),
    ("as it is", "unchanged"),
    ("be had", "available"),
    ("is none", "is missing"),
    ("lie", "are"),
    ("lies", "is"),
    ("meanwhile", "concurrently"),
    ("nobody", "no user, no process"),
    ("nothing where", "nothing if"),
    ("parted", "split"),
    ("somebody", "another user"),
    ("stand", "is"),
    ("stands", "is"),
    ("stood", "was"),
    ("tell", "report"),
    ("tells", "reports"),
    ("thrown away", "discarded"),
    ("told", "reported"),
    ("whoever", "the process that"),
];

/// Returns `text` in lower case, with one space between words and around the whole.
fn words(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(" ".to_owned(), |line, word| line + &word.to_lowercase() + " ")
}

/// Returns the first hunted word in `text` with its replacement, if there is one.
pub(crate) fn hunted_word(text: &str) -> Option<(&'static str, &'static str)> {
    let text = words(text);
    HUNTED.into_iter().find(|(hunted, _)| text.contains(&format!(" {hunted} ")))
}

#[test]
fn documents_use_plain_words() {
    for page in Page::all() {
        let found = hunted_word(&page.text);
        assert_eq!(found, None, "{}: replace the first of these words by the second", page.path);
    }
    assert_eq!(hunted_word("It Stands,\nhere"), Some(("stands", "is")));
}
