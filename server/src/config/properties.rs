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

/// The text of a properties file. Java reads ISO-8859-1, of which every byte is a character. A file that is UTF-8 is
/// read as such: its writer meant what an editor shows.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

/// The entries of a properties file in order; of two with the same key the later one counts.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    let mut entries = Vec::new();
    let mut lines = lines(text).enumerate();
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

/// Lines that end in a line feed, a carriage return, or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
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
            let is_whole = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| is_whole);
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
    fn each_end_of_a_line_is_one() {
        let entries = [("a".into(), "b".into()), ("c".into(), "d".into())];
        for text in ["a=b\nc=d", "a=b\rc=d\r", "a=b\r\nc=d\r\n", "a=b\r\r\n# x\rc=d", "a=\\\rb\rc=\\\r\n  d"]
        {
            assert_eq!(parse(text).expect("sound"), entries, "{text:?}");
        }
        assert_eq!(parse("a=b\rc=\\u1").expect_err("too few digits").line, 2);
    }

    #[test]
    fn what_is_not_utf_8_is_latin_1() {
        assert_eq!(text(b"broker.rack=caf\xc3\xa9".to_vec()), "broker.rack=caf\u{e9}");
        assert_eq!(text(b"# \xfcbrig\nbroker.rack=caf\xe9".to_vec()), "# \u{fc}brig\nbroker.rack=caf\u{e9}");
    }

    #[test]
    fn escapes() {
        assert_eq!(one("a\\=b=c\\td"), ("a=b".into(), "c\td".into()));
        assert_eq!(one("a=\\u00e9\\ud83d\\ude00"), ("a".into(), "é😀".into()));
        for broken in ["x=1\ny=\\u12", "x=1\ny=\\u+041", "x=1\ny=\\uzzzz"] {
            assert_eq!(parse(broken).expect_err("not four digits").line, 2, "{broken:?}");
        }
    }
}
