//! The language of documents: plain technical English, with the words that readers search for.

use super::Page;

/// Words of a dialect that documents once used, with the words to use instead.
const HUNTED: [(&str, &str); 17] = [
    ("anew", "again"),
    ("as it is", "unchanged"),
    ("be had", "available"),
    ("is none", "is missing"),
    ("lies", "is"),
    ("meanwhile", "concurrently"),
    ("nobody", "no user, no process"),
    ("nothing where", "nothing if"),
    ("parted", "split"),
    ("somebody", "another user"),
    ("stand", "is"),
    ("stands", "is"),
    ("stood", "was"),
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

#[test]
fn documents_use_plain_words() {
    for page in Page::all() {
        let text = words(&page.text);
        for (hunted, instead) in HUNTED {
            assert!(!text.contains(&format!(" {hunted} ")), "{}: \"{hunted}\" (say: {instead})", page.path);
        }
    }
    assert!(words("It Stands,\nhere").contains(" stands "));
}
