//! What a conversation is called: how its first message begins, while nobody has named it.

/// Most characters of a title.
const LONGEST: usize = 60;

/// The first words of a text, on one line and without control characters; `None` if there are none.
pub(crate) fn of(text: &str) -> Option<String> {
    let mut title = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let room = LONGEST - length;
        let word_length = word.chars().count() + usize::from(length > 0);
        if word_length > room {
            // A single word that is too long is cut; any other begins the next line that nobody sees.
            if length == 0 {
                title.extend(word.chars().take(LONGEST - 1));
            }
            title.push('…');
            break;
        }
        if length > 0 {
            title.push(' ');
        }
        title.push_str(word);
        length += word_length;
    }
    (!title.is_empty()).then_some(title)
}

/// A name on one line and without control characters; `None` if nothing is left.
pub(crate) fn named(name: &str) -> Option<String> {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_a_short_line() {
        for (text, title) in [
            ("", None),
            (" \n\t\x1b ", None),
            ("Hello", Some("Hello".to_owned())),
            ("  What\nis \x07the   time?", Some("What is the time?".to_owned())),
            (&"word ".repeat(12), Some(format!("{}word", "word ".repeat(11)))),
            (&"word ".repeat(13), Some(format!("{}word…", "word ".repeat(11)))),
            (&"ü".repeat(60), Some("ü".repeat(60))),
            (&"ü".repeat(61), Some(format!("{}…", "ü".repeat(59)))),
        ] {
            assert_eq!(of(text), title, "{text:?}");
        }
    }
}
