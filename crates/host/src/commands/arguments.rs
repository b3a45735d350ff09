//! Arguments of a command, from whoever typed them to the plugin: split, measured, cleaned.

use bespoke_plugin_api::{Error, Result};
use bespoke_screen::plain;

/// Most bytes of all arguments of a command together.
pub(crate) const MOST_BYTES: usize = 4096;
/// Most arguments.
const MOST_ARGUMENTS: usize = 256;

/// A line as arguments: words, or what stands between two double quotes. A quote that is not closed is a character like any other, so that
/// every line has a reading: people write in it, not shells.
pub fn split_arguments(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"').and_then(|inner| {
            let (argument, after) = inner.split_once('"')?;
            // A quote in the middle of a word closes nothing.
            after.is_empty().then_some((argument, after)).or_else(|| after.starts_with(char::is_whitespace).then_some((argument, after)))
        });
        let (argument, after) = quoted.unwrap_or_else(|| rest.split_once(char::is_whitespace).unwrap_or((rest, "")));
        arguments.push(argument.to_owned());
        rest = after.trim_start();
    }
    arguments
}

/// Arguments as a plugin gets them: without control characters, escape sequences, and what cannot be seen. Line ends and tabs stay.
///
/// # Errors
/// `INVALID_PARAMS` for more than 256 arguments, or more than 4096 bytes of them as they were given.
pub(crate) fn cleaned(args: Vec<String>) -> Result<Vec<String>> {
    if args.len() > MOST_ARGUMENTS {
        return Err(Error::invalid_params(format!("{} arguments; a command takes {MOST_ARGUMENTS} at most", args.len())));
    }
    let bytes: usize = args.iter().map(String::len).sum();
    if bytes > MOST_BYTES {
        return Err(Error::invalid_params(format!("the arguments have {bytes} bytes; a command takes {MOST_BYTES} at most"))
            .with_help("put what is long into a file, and name the file"));
    }
    Ok(args.into_iter().map(|arg| plain(&arg).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_always_has_a_reading() {
        for (line, expected) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("a b  c", &["a", "b", "c"]),
            (r#"say "two words" now"#, &["say", "two words", "now"]),
            (r#""""#, &[""]),
            (r#"what's "up"#, &["what's", "\"up"]),
            (r#"5" pipe"#, &["5\"", "pipe"]),
            (r#""a"b c"#, &["\"a\"b", "c"]),
            ("one\ntwo", &["one", "two"]),
        ] {
            assert_eq!(split_arguments(line), expected, "{line:?}");
        }
    }
}
