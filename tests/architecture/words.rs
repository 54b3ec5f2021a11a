//! The language of help, messages and comments: the same plain words as in the documents.

use super::{code, sources, src};
use crate::documents::hunted_word;

#[test]
fn help_messages_and_comments_use_plain_words() {
    for file in sources(&src()) {
        for (line, text) in prose(&code(&file)) {
            let found = hunted_word(&without_code(&text));
            assert_eq!(found, None, "{}:{line}: replace the first of these words by the second", file.display());
        }
    }
}

/// The comments and string literals of a source file, with the lines where they begin. The help is in documentation comments.
fn prose(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut rest, mut line) = (code, 1);
    while !rest.is_empty() {
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..length].trim_start_matches(['/', '!']);
            match found.last_mut() {
                // A sentence may go on in the comment of the next line.
                Some((last, comment)) if *last + comment.matches('\n').count() + 1 == line => {
                    comment.push('\n');
                    comment.push_str(text);
                }
                _ => found.push((line, text.to_owned())),
            }
            length
        } else if rest.starts_with("r#\"") {
            let length = rest.find("\"#").map_or(rest.len(), |end| end + 2);
            found.push((line, rest[..length].to_owned()));
            length
        } else if let Some(string) = rest.strip_prefix('"') {
            let length = 1 + end_of_string(string);
            found.push((line, rest[..length].to_owned()));
            length
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find("'").map_or(rest.len(), |end| end + 2)
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The position after the quote that ends a string.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().find(|(_, character)| {
        let is_end = *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The text without code in backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn comments_and_strings_are_found() {
    let code = "/// One `lies`\n/// two\nfn f() { say('\"', \"three \\\" four\"); } // five";
    let found: Vec<(usize, String)> = prose(code).into_iter().map(|(line, text)| (line, without_code(&text))).collect();
    let expected = [(1, " One  \n two"), (3, "\"three \\\" four\""), (3, " five")];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}
