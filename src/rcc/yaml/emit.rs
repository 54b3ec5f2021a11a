//! Writes strings as go-yaml 2 writes them: its choice of quotes, and its folding of long lines.
//!
//! The output is hashed, so it must equal that library's byte by byte; a test compares with the real rcc. The reader
//! rejects Unicode line separators, so the only line break is `\n`.

use super::plain;

/// Beyond this column a line is folded at the next space (go-yaml 2: `best_width`).
const FOLDING_COLUMN: usize = 80;

/// A writer of YAML text.
#[derive(Debug, Default)]
pub(in crate::rcc) struct YamlWriter {
    text: String,
    /// The number of characters in the last line.
    column: usize,
}

/// The style of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScalarStyle {
    Plain,
    Single,
    Double,
    Literal,
}

impl YamlWriter {
    /// Appends `text` unchanged.
    pub(in crate::rcc) fn raw(&mut self, text: &str) {
        for c in text.chars() {
            self.put(c);
        }
    }

    /// Appends a string scalar whose continuation lines are indented by `indent`.
    pub(in crate::rcc) fn scalar(&mut self, value: &str, indent: usize) {
        match style(value) {
            ScalarStyle::Plain => self.folded(value, indent, ScalarStyle::Plain),
            ScalarStyle::Single => {
                self.put('\'');
                self.folded(value, indent, ScalarStyle::Single);
                self.put('\'');
            }
            ScalarStyle::Double => {
                self.put('"');
                // go-yaml 2 compares the first character, not the current one, with a byte order mark.
                match value.starts_with('\u{feff}') {
                    true => value.chars().for_each(|c| self.escape(c)),
                    false => self.folded(value, indent, ScalarStyle::Double),
                }
                self.put('"');
            }
            ScalarStyle::Literal => self.literal(value, indent),
        }
    }

    /// Returns the text.
    pub(in crate::rcc) fn finish(self) -> String {
        self.text
    }

    fn put(&mut self, c: char) {
        self.text.push(c);
        self.column = if c == '\n' { 0 } else { self.column + 1 };
    }

    fn line_break(&mut self, indent: usize) {
        self.put('\n');
        for _ in 0..indent {
            self.put(' ');
        }
    }

    /// Writes a scalar in one of the three styles that may be folded at a space.
    fn folded(&mut self, value: &str, indent: usize, style: ScalarStyle) {
        let mut previous_is_blank = false;
        let mut characters = value.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            let next = characters.peek().map(|(_, next)| *next);
            if c != ' ' {
                match style {
                    ScalarStyle::Single if c == '\'' => self.raw("''"),
                    ScalarStyle::Double if needs_escape(c) => self.escape(c),
                    _ => self.put(c),
                }
                previous_is_blank = false;
                continue;
            }
            let is_inside = at > 0 && next.is_some();
            let may_fold = !previous_is_blank && self.column > FOLDING_COLUMN;
            let folds = match style {
                ScalarStyle::Plain => may_fold && next != Some(' '),
                ScalarStyle::Single => may_fold && is_inside && next != Some(' '),
                _ => may_fold && is_inside,
            };
            if folds {
                self.line_break(indent);
                // Only double quotes fold before a space: the escape preserves it.
                if next == Some(' ') {
                    self.put('\\');
                }
            } else {
                self.put(' ');
            }
            previous_is_blank = true;
        }
    }

    fn escape(&mut self, c: char) {
        self.put('\\');
        let code = u32::from(c);
        match c {
            '\0' => self.put('0'),
            '\u{7}' => self.put('a'),
            '\u{8}' => self.put('b'),
            '\t' => self.put('t'),
            '\n' => self.put('n'),
            '\u{b}' => self.put('v'),
            '\u{c}' => self.put('f'),
            '\r' => self.put('r'),
            '\u{1b}' => self.put('e'),
            '"' | '\\' => self.put(c),
            '\u{85}' => self.put('N'),
            _ if code <= 0xff => self.raw(&format!("x{code:02X}")),
            _ if code <= 0xffff => self.raw(&format!("u{code:04X}")),
            _ => self.raw(&format!("U{code:08X}")),
        }
    }

    /// Writes a block scalar.
    ///
    /// That is `|`, an indentation indicator if the text begins with white space, and a chomping indicator.
    fn literal(&mut self, value: &str, indent: usize) {
        self.put('|');
        if value.starts_with([' ', '\n']) {
            self.put('2');
        }
        if !value.ends_with('\n') {
            self.put('-');
        } else if value == "\n" || value.ends_with("\n\n") {
            self.put('+');
        }
        self.put('\n');
        for line in value.split_inclusive('\n') {
            if line != "\n" {
                for _ in 0..indent {
                    self.put(' ');
                }
            }
            self.raw(line);
        }
        if !value.ends_with('\n') {
            self.put('\n');
        }
    }

    /// Ends the line, unless a literal scalar has already ended it.
    pub(in crate::rcc) fn end_line(&mut self) {
        if self.column > 0 {
            self.put('\n');
        }
    }
}

/// Returns the style of `value` outside flow collections and keys.
fn style(value: &str) -> ScalarStyle {
    let is_printable = value.chars().all(is_printable);
    if value.contains('\n') {
        let loses_blanks = value.contains(" \n") || value.ends_with(' ');
        return if is_printable && !loses_blanks { ScalarStyle::Literal } else { ScalarStyle::Double };
    }
    if !is_printable || plain::reads_as_something_else(value) {
        return ScalarStyle::Double;
    }
    let touches_an_end = value.starts_with(' ') || value.ends_with(' ');
    if touches_an_end || begins_like_a_marker(value) || has_indicator(value) {
        ScalarStyle::Single
    } else {
        ScalarStyle::Plain
    }
}

fn begins_like_a_marker(value: &str) -> bool {
    value.starts_with("---") || value.starts_with("...")
}

/// Returns whether a printable string without line breaks holds characters with a meaning in block context.
fn has_indicator(value: &str) -> bool {
    let mut previous_is_white = true;
    let mut characters = value.chars().enumerate().peekable();
    while let Some((at, c)) = characters.next() {
        let next_is_white = characters.peek().is_none_or(|(_, next)| *next == ' ');
        let means_something = match c {
            '#' => previous_is_white,
            ':' => next_is_white,
            '?' | '-' => at == 0 && next_is_white,
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => at == 0,
            _ => false,
        };
        if means_something {
            return true;
        }
        previous_is_white = c == ' ';
    }
    false
}

/// Returns whether go-yaml 2 prints the character: none beyond the basic plane, and no tab.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn needs_escape(c: char) -> bool {
    !is_printable(c) || matches!(c, '\n' | '"' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &str) -> String {
        let mut writer = YamlWriter::default();
        writer.raw("- ");
        writer.scalar(value, 2);
        writer.finish()
    }

    #[test]
    fn quotes_are_chosen_by_what_would_be_read_back() {
        for (value, expected) in [
            ("python=3.10.12", "- python=3.10.12"),
            ("3.10", "- \"3.10\""),
            ("yes", "- \"yes\""),
            ("", "- \"\""),
            ("2024-01-02", "- \"2024-01-02\""),
            ("1:30", "- \"1:30\""),
            ("# no comment", "- '# no comment'"),
            ("it's: here", "- 'it''s: here'"),
            ("a # b", "- 'a # b'"),
            ("a#b:c", "- a#b:c"),
            ("-r x", "- -r x"),
            ("- x", "- '- x'"),
            ("--- x", "- '--- x'"),
            (" x", "- ' x'"),
            ("a\tb", "- \"a\\tb\""),
            ("\u{1f600}", "- \"\\U0001F600\""),
            ("x\u{feff}y", "- \"x\\uFEFFy\""),
            ("\u{feff}x y\"", "- \"\\uFEFF\\x78\\x20\\x79\\\"\""),
            ("\u{7f}", "- \"\\x7F\""),
            ("größe", "- größe"),
        ] {
            assert_eq!(written(value), expected, "{value:?}");
        }
    }

    #[test]
    fn text_of_several_lines_is_a_block() {
        assert_eq!(written("a\nb"), "- |-\n  a\n  b\n");
        assert_eq!(written("a\n\nb\n"), "- |\n  a\n\n  b\n");
        assert_eq!(written("a\n\n"), "- |+\n  a\n\n");
        assert_eq!(written(" a\nb"), "- |2-\n   a\n  b\n");
        assert_eq!(written("a \nb"), "- \"a \\nb\"");
    }

    #[test]
    fn lines_fold_at_the_first_blank_beyond_column_80() {
        let long = format!("{} b c", "a".repeat(79));
        // The space is in column 81 (after "- " and 79 letters).
        assert_eq!(written(&long), format!("- {}\n  b c", "a".repeat(79)));
        let exact = format!("{} b c", "a".repeat(78));
        assert_eq!(written(&exact), format!("- {} b\n  c", "a".repeat(78)));
        let double_blank = format!("{}  b c", "a".repeat(79));
        assert_eq!(written(&double_blank), format!("- {}  b\n  c", "a".repeat(79)));
        let single = format!("'{}  b c", "a".repeat(79));
        assert_eq!(written(&single), format!("- '''{}  b\n  c'", "a".repeat(79)));
        let double = format!("\t{}  b c", "a".repeat(79));
        assert_eq!(written(&double), format!("- \"\\t{}\n  \\ b c\"", "a".repeat(79)));
    }
}
