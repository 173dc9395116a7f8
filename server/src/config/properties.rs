//! The syntax of `server.properties`: Java's `java.util.Properties`.

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SyntaxError {
    /// 1-based number of the line where the entry begins.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// The entries of a properties file in order; of two with the same key the later one counts.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    let mut entries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches([' ', '\t', '\u{c}']);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_string();
        while ends_in_odd_backslashes(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches([' ', '\t', '\u{c}']));
        }
        entries.push(entry(&logical).map_err(|why| SyntaxError { line: index + 1, why })?);
    }
    Ok(entries)
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or space that is not escaped; the value begins behind it.
fn entry(line: &str) -> Result<(String, String), &'static str> {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, character)| {
            let ends = !escaped && matches!(character, '=' | ':' | ' ' | '\t' | '\u{c}');
            escaped = !escaped && *character == '\\';
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let space = [' ', '\t', '\u{c}'];
    let rest = rest.trim_start_matches(space);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(space);
    Ok((unescape(key)?, unescape(value)?))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next() } else { None };
        if escaped == Some('u') {
            let digits: String = characters.by_ref().take(4).collect();
            let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
            units.push(unit.ok_or("\\u needs four hexadecimal digits")?);
            continue;
        }
        flush(&mut units, &mut plain);
        plain.push(match (character, escaped) {
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\u{c}',
            ('\\', Some(other)) => other,
            (other, _) => other,
        });
    }
    flush(&mut units, &mut plain);
    Ok(plain)
}

/// `\uXXXX` are UTF-16 units: characters beyond the first plane come as two.
fn flush(units: &mut Vec<u16>, plain: &mut String) {
    plain.extend(char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (String, String) {
        let mut entries = parse(text).expect("a sound file");
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }

    #[test]
    fn separators_and_space() {
        for text in ["a=b", "a = b", " a:b", "a b", "a\t=\tb", "a : b"] {
            assert_eq!(one(text), ("a".into(), "b".into()), "{text:?}");
        }
        assert_eq!(one("a="), ("a".into(), String::new()));
        assert_eq!(one("a"), ("a".into(), String::new()));
        assert_eq!(one("a=b = c "), ("a".into(), "b = c ".into()));
    }

    #[test]
    fn comments_and_blank_lines_are_skipped() {
        assert_eq!(parse("# x=1\n  ! y=2\n\n \t\n").expect("comments"), vec![]);
    }

    #[test]
    fn a_line_goes_on_behind_an_odd_backslash() {
        assert_eq!(one("a=b,\\\n   c"), ("a".into(), "b,c".into()));
        assert_eq!(one("a=b\\\\"), ("a".into(), "b\\".into()));
        assert_eq!(parse("a=b\\\\\nc=d").expect("two entries").len(), 2);
        assert_eq!(one("a=b\\"), ("a".into(), "b".into()));
    }

    #[test]
    fn escapes() {
        assert_eq!(one("a\\=b=c\\td"), ("a=b".into(), "c\td".into()));
        assert_eq!(one("a=\\u00e9\\ud83d\\ude00"), ("a".into(), "é😀".into()));
        let error = parse("x=1\ny=\\u12").expect_err("too few digits");
        assert_eq!(error.line, 2);
    }
}
