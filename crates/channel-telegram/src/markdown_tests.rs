//! What Markdown becomes, and that no input breaks it.

use expect_test::{Expect, expect};

use super::*;
use crate::split;

/// Text with its styles in words.
fn shown(markdown: &str) -> String {
    let rich = read(markdown);
    let spans = rich.spans.iter().map(|span| format!("\n  {:?} {:?}", span.style, &rich.text[span.range.clone()]));
    rich.text.clone() + &spans.collect::<String>()
}

fn check(markdown: &str, expect: Expect) {
    expect.assert_eq(&shown(markdown));
}

#[test]
fn words_and_links() {
    check(
        "Some **bold**, *italic*, ***both***, ~~struck~~ and `code_with_*` words.\nA [link](https://example.com/a_b) and <https://example.com>.",
        expect![[r#"
            Some bold, italic, both, struck and code_with_* words.
            A link and https://example.com.
              Bold "bold"
              Italic "italic"
              Bold "both"
              Italic "both"
              Strike "struck"
              Code "code_with_*"
              Link("https://example.com/a_b") "link""#]],
    );
    check(
        "**bold with `code` in it** and [a `link` too](https://example.com)",
        expect![[r#"
        bold with code in it and a link too
          Bold "bold with "
          Code "code"
          Bold " in it"
          Link("https://example.com") "a link too""#]],
    );
    check(
        "[relative](docs/a.md) ![image](https://example.com/x.png) [bad](javascript:x) ![](y.png)",
        expect![[r#"
        relative (docs/a.md) image bad (javascript:x)  (y.png)
          Link("https://example.com/x.png") "image""#]],
    );
    check(
        "2 * 3 * 4 = 24, snake_case_name, 5 < 6 & 7 > 2, \\*escaped\\*, <b>html</b>, a<br>b, &amp;",
        expect![[r#"
        2 * 3 * 4 = 24, snake_case_name, 5 < 6 & 7 > 2, *escaped*, <b>html</b>, a
        b, &"#]],
    );
    check("**never closed, `nor this", expect!["**never closed, `nor this"]);
}

#[test]
fn blocks() {
    check(
        "# Title\n\nFirst\nline.\n\nSecond.\n\n---\n\n## Next *one*\nEnd.",
        expect![[r#"
        Title

        First
        line.

        Second.

        ———

        Next one

        End.
          Bold "Title"
          Bold "Next one"
          Italic "one""#]],
    );
    check(
        "- one\n- two\n  - deep\n  - er\n- three\n\n3. c\n4. d\n\n- [x] done\n- [ ] not\n\nEnd.",
        expect![[r#"
        • one
        • two
          • deep
          • er
        • three

        3. c
        4. d

        • ☑ done
        • ☐ not

        End."#]],
    );
    check(
        "- loose\n\n- list\n\n  with a paragraph\n\n  ```sh\n  ls\n  ```\n\nEnd.",
        expect![[r#"
        • loose
        • list
        with a paragraph
        ls

        End.
          Pre(Some("sh")) "ls""#]],
    );
    check(
        "Code:\n\n```rust\nfn main() {\n    let a = **b;\n}\n```\n\n    indented\n\nEnd.",
        expect![[r#"
        Code:

        fn main() {
            let a = **b;
        }

        indented

        End.
          Pre(Some("rust")) "fn main() {\n    let a = **b;\n}"
          Pre(None) "indented""#]],
    );
    check(
        "```\nnever closed\n  x",
        expect![[r#"
        never closed
          x
          Pre(None) "never closed\n  x""#]],
    );
    check(
        "> quoted **text**\n> goes on\n>\n> > deeper\n\nEnd.",
        expect![[r#"
        quoted text
        goes on

        deeper

        End.
          Quote "quoted text\ngoes on\n\ndeeper"
          Bold "text""#]],
    );
    check(
        "| Name | n |\n|---|--:|\n| **a** | 1 |\n| long name | 22 |\n\nEnd.",
        expect![[r#"
        Name      | n
        ----------|---
        a         | 1
        long name | 22

        End.
          Pre(None) "Name      | n\n----------|---\na         | 1\nlong name | 22""#]],
    );
}

#[test]
fn nothing_is_nothing() {
    for markdown in ["", " \n\n\t", "# ", "- \n", "``` \n```", "> ", "\u{0}\u{7}"] {
        let rich = read(markdown);
        assert!(rich.text.trim().is_empty() || rich.text == "•", "{markdown:?}: {rich:?}");
    }
    assert_eq!(read("a\u{0}b\u{1b}[31mc\u{7f}").text, "ab[31mc");
}

/// Numbers that only look random.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

const PIECES: &[&str] = &[
    "**",
    "*",
    "_",
    "__",
    "~~",
    "`",
    "``",
    "```",
    "```rust\n",
    "\n",
    "\n\n",
    "    ",
    "- ",
    "1. ",
    "> ",
    "# ",
    "| a | b |\n",
    "|--|--|\n",
    "[",
    "](",
    ")",
    "](https://example.com/x)",
    "![",
    "<br>",
    "<b>",
    "</b>",
    "<https://example.com>",
    "&amp;",
    "\\",
    "word ",
    "another word. ",
    "é",
    "😀",
    "👨‍👩‍👧",
    "\u{301}",
    "日本語",
    "\t",
    "\r\n",
    "- [ ] ",
    "---\n",
    ":",
    "\u{0}",
    "\u{202e}",
    "x",
    " ",
    "http://a.example/?b=_c_ ",
];

/// Markdown that nobody would write.
pub(crate) fn random(dice: &mut Dice, most: usize) -> String {
    let count = dice.below(most);
    (0..count).map(|_| PIECES[dice.below(PIECES.len())]).collect()
}

/// Whether spans are within the text, at ends of characters, sorted, and lie within each other or apart.
pub(crate) fn sound(rich: &Rich) -> Result<(), String> {
    for (n, span) in rich.spans.iter().enumerate() {
        let range = &span.range;
        if range.start >= range.end || rich.text.get(range.clone()).is_none() {
            return Err(format!("{span:?} is no place in the text"));
        }
        for other in &rich.spans[n + 1..] {
            let within = other.range.end <= range.end;
            let apart = other.range.start >= range.end;
            if other.range.start < range.start || !(within || apart) {
                return Err(format!("{span:?} and {other:?}"));
            }
            let same = std::mem::discriminant(&other.style) == std::mem::discriminant(&span.style);
            let alone = matches!(span.style, Style::Code | Style::Pre(_))
                || (matches!(other.style, Style::Code | Style::Pre(_)) && span.style != Style::Quote);
            if !apart && (same || alone) {
                return Err(format!("{other:?} within {span:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn no_input_breaks_a_style() {
    let mut dice = Dice(1);
    for _ in 0..10_000 {
        let markdown = random(&mut dice, 60);
        let rich = read(&markdown);
        if let Err(why) = sound(&rich) {
            panic!("{markdown:?}: {why}");
        }
        for part in split::parts(&rich) {
            let units: Vec<u16> = part.text.encode_utf16().collect();
            let mut last = 0;
            for entity in &part.entities {
                let (offset, length) = (entity["offset"].as_u64().unwrap() as usize, entity["length"].as_u64().unwrap() as usize);
                assert!(offset >= last && length > 0 && offset + length <= units.len(), "{markdown:?}: {entity}");
                assert!(String::from_utf16(&units[offset..offset + length]).is_ok(), "{markdown:?}: {entity} cuts a character");
                last = offset;
            }
        }
    }
}

#[test]
fn long_and_deep_inputs_end() {
    for markdown in
        ["> ".repeat(20_000), "*a ".repeat(20_000), "[".repeat(20_000), "- ".repeat(5_000), "`".repeat(20_000), "**".repeat(20_000)]
    {
        sound(&read(&(markdown + "x"))).unwrap();
    }
    let columns = "|a".repeat(3_000) + "|\n" + &"|-".repeat(3_000) + "|\n" + &"|b|\n".repeat(3_000);
    let rich = read(&columns);
    assert!(rich.text.len() < 100 << 20, "{}", rich.text.len());
}
