//! HTML as text that a model can read: headings, lists, tables and links kept, everything else left out.
//!
//! Over tokens, without a tree: a page decides how deep its elements lie and how many there are, and here neither costs more
//! than its own bytes. A parser that builds the tree of the standard may take quadratic time and memory for a page that is made
//! for it, and half a minute for a hundred thousand nested `div`.
//!
//! **Invariant:** time and memory are linear in the bytes of the page, and nothing recurses.

use std::collections::HashMap;

use html5gum::{DefaultEmitter, HtmlString, StartTag, Token, Tokenizer};
use url::Url;

use crate::text::is_hidden;

/// Longest address of a link that is told, in bytes. Longer ones hold data rather than lead anywhere.
const LONGEST_LINK: usize = 500;

/// Most characters of the text that stands for an image.
const LONGEST_ALT: usize = 200;

/// Depth up to which lists and quotations are indented.
const DEEPEST: usize = 6;

/// A page, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Without line breaks; empty when there is none.
    pub(crate) title: String,
    /// Paragraphs between empty lines. A link is followed by its number in brackets.
    pub(crate) text: String,
    /// Where links lead: number one first.
    pub(crate) links: Vec<Link>,
}

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Absolute.
    pub(crate) url: String,
    /// Where in the text its number stands first, in bytes.
    pub(crate) at: usize,
}

/// Reads a page that came from `url`.
pub(crate) fn read(html: &str, url: &Url) -> Page {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut writer = Writer::new(url.clone());
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => writer.start(&tag),
            Token::EndTag(tag) => writer.end(&tag.name),
            Token::String(text) => writer.text(&String::from_utf8_lossy(&text)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    writer.page
}

struct Writer {
    page: Page,
    /// What links are relative to.
    base: Url,
    base_is_set: bool,
    /// Inside an element that is left out: its name, and how often it is open.
    skipped: Option<(HtmlString, usize)>,
    title: Title,
    /// Line breaks and a space that come before the next text, if one comes.
    breaks: usize,
    space: bool,
    /// What stands at the begin of the next line, such as `# `.
    marker: String,
    quotes: usize,
    /// The same when the last line was written.
    quoted: usize,
    /// The numbers of the open lists; none for a list with dots.
    lists: Vec<Option<u32>>,
    /// Rows of the tables that are open.
    rows: Vec<Row>,
    preformatted: usize,
    /// The link that is open: where it leads, and the length of the text before it.
    link: Option<(String, usize)>,
    numbers: HashMap<String, usize>,
}

/// There is one title: that of the first `title` which is closed.
#[derive(PartialEq)]
enum Title {
    Awaited,
    Open,
    Done,
}

#[derive(Default)]
struct Row {
    cells: u32,
    heads: u32,
    in_cell: bool,
}

impl Writer {
    fn new(base: Url) -> Self {
        Writer {
            page: Page::default(),
            base,
            base_is_set: false,
            skipped: None,
            title: Title::Awaited,
            breaks: 0,
            space: false,
            marker: String::new(),
            quotes: 0,
            quoted: 0,
            lists: Vec::new(),
            rows: Vec::new(),
            preformatted: 0,
            link: None,
            numbers: HashMap::new(),
        }
    }

    fn start(&mut self, tag: &StartTag<()>) {
        let name: &[u8] = &tag.name;
        if let Some((skipped, depth)) = &mut self.skipped {
            if **skipped == *name && !tag.self_closing {
                *depth += 1;
            }
            return;
        }
        if is_left_out(tag) {
            self.skipped = Some((tag.name.clone(), 1));
            return;
        }
        match name {
            b"title" if self.title == Title::Awaited => self.title = Title::Open,
            b"base" if !self.base_is_set => {
                if let Some(base) = attribute(tag, b"href").and_then(|href| self.base.join(&href).ok()) {
                    (self.base, self.base_is_set) = (base, true);
                }
            }
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => {
                self.part(2);
                self.marker += &("#".repeat(usize::from(name[1] - b'0')) + " ");
            }
            b"br" => self.line_break(),
            b"hr" => {
                self.part(2);
                self.write("---");
                self.part(2);
            }
            b"ul" | b"ol" | b"menu" => {
                self.part(if self.lists.is_empty() { 2 } else { 1 });
                let first = attribute(tag, b"start").and_then(|n| n.trim().parse().ok()).unwrap_or(1);
                self.lists.push((name == b"ol").then_some(first));
            }
            b"li" => {
                self.part(1);
                self.marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let marker = format!("{number}. ");
                        *number = number.saturating_add(1);
                        marker
                    }
                    _ => "- ".into(),
                };
            }
            b"blockquote" => {
                self.part(2);
                self.quotes += 1;
            }
            b"pre" | b"listing" | b"xmp" => {
                self.part(2);
                self.write("```");
                self.part(1);
                self.preformatted += 1;
            }
            b"table" => {
                self.part(2);
                self.rows.push(Row::default());
            }
            b"tr" => {
                self.end_row();
                self.part(1);
            }
            b"td" | b"th" => self.start_cell(name == b"th"),
            b"a" => {
                self.end_link();
                if let Some(url) = attribute(tag, b"href").and_then(|href| self.leads_to(&href)) {
                    self.link = Some((url, self.page.text.len()));
                }
            }
            b"img" => {
                if let Some(alt) = attribute(tag, b"alt").filter(|alt| !alt.trim().is_empty()) {
                    let alt: String = alt.chars().take(LONGEST_ALT).collect();
                    self.text(&format!("[image: {}]", alt.trim()));
                }
            }
            b"option" => self.space = true,
            b"q" => self.text("“"),
            _ => self.part(gap(name)),
        }
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((skipped, depth)) = &mut self.skipped {
            if **skipped == *name {
                *depth -= 1;
                if *depth == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        match name {
            b"title" if self.title == Title::Open => self.title = Title::Done,
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => {
                self.marker.clear();
                self.part(2);
            }
            b"ul" | b"ol" | b"menu" => {
                self.lists.pop();
                self.marker.clear();
                self.part(if self.lists.is_empty() { 2 } else { 1 });
            }
            b"li" => {
                self.marker.clear();
                self.part(1);
            }
            b"blockquote" => {
                self.part(2);
                self.quotes = self.quotes.saturating_sub(1);
            }
            b"pre" | b"listing" | b"xmp" if self.preformatted > 0 => {
                self.preformatted -= 1;
                self.part(1);
                self.write("```");
                self.part(2);
            }
            b"tr" => self.end_row(),
            b"td" | b"th" => {
                if let Some(row) = self.rows.last_mut() {
                    row.in_cell = false;
                }
            }
            b"table" => {
                self.end_row();
                self.rows.pop();
                self.part(2);
            }
            b"a" => self.end_link(),
            b"q" => self.text("”"),
            _ => self.part(gap(name)),
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped.is_some() {
            return;
        }
        if self.title == Title::Open {
            for word in text.split_whitespace() {
                if !self.page.title.is_empty() {
                    self.page.title.push(' ');
                }
                self.page.title.extend(word.chars().filter(|c| !is_hidden(*c)));
            }
            return;
        }
        if self.preformatted > 0 {
            for (n, line) in text.split('\n').enumerate() {
                self.breaks += n.min(1);
                self.write(line.trim_end_matches('\r'));
            }
            return;
        }
        for (n, word) in text.split(|c: char| c.is_whitespace()).enumerate() {
            self.space |= n > 0;
            self.write(word);
        }
    }

    /// Writes what stands on one line, after the breaks and marks that wait for it.
    fn write(&mut self, text: &str) {
        if text.chars().all(is_hidden) {
            return;
        }
        let out = &mut self.page.text;
        if out.is_empty() || self.breaks > 0 {
            let breaks = if out.is_empty() { 0 } else { self.breaks };
            let quotes = "> ".repeat(self.quotes.min(DEEPEST));
            for n in 0..breaks {
                out.push('\n');
                // An empty line inside of a quotation belongs to it.
                if n + 1 < breaks && self.quoted > 0 {
                    out.push_str(quotes[..quotes.len().min(self.quoted * 2)].trim_end());
                }
            }
            out.push_str(&quotes);
            self.quoted = self.quotes.min(DEEPEST);
            let is_item = !self.marker.is_empty() && !self.marker.starts_with('#');
            let items = self.lists.len().min(DEEPEST).saturating_sub(usize::from(is_item));
            out.push_str(&"  ".repeat(items));
        } else if self.space && !out.ends_with(' ') {
            out.push(' ');
        }
        (self.breaks, self.space) = (0, false);
        out.push_str(&self.marker);
        self.marker.clear();
        out.extend(text.chars().filter(|c| !is_hidden(*c)));
    }

    /// What comes next begins on a line of its own, after `breaks` breaks. In a cell of a table only what is set apart does:
    /// a row is to stay a line.
    fn part(&mut self, breaks: usize) {
        if breaks == 1 && self.rows.last().is_some_and(|row| row.in_cell) {
            self.space = true;
        } else {
            self.breaks = self.breaks.max(breaks);
        }
    }

    fn line_break(&mut self) {
        if self.rows.last().is_some_and(|row| row.in_cell) {
            self.space = true;
        } else {
            self.breaks = (self.breaks + 1).min(2);
        }
    }

    fn start_cell(&mut self, head: bool) {
        let Some(row) = self.rows.last_mut() else { return self.part(1) };
        row.cells += 1;
        row.heads += u32::from(head);
        let further = row.cells > 1;
        row.in_cell = true;
        if further && !self.page.text.is_empty() {
            // Also behind an empty cell: which column a value stands in is what a table tells.
            self.breaks = 0;
            self.space = true;
            self.write("|");
        }
        self.space = true;
    }

    fn end_row(&mut self) {
        let Some(row) = self.rows.last_mut() else { return };
        let Row { cells, heads, .. } = std::mem::take(row);
        if cells > 0 {
            self.part(1);
        }
        if cells > 1 && heads == cells {
            self.write(&vec!["---"; cells.min(64) as usize].join(" | "));
            self.part(1);
        }
    }

    /// The address of a link that is worth telling.
    fn leads_to(&self, href: &str) -> Option<String> {
        let href = href.trim();
        if href.is_empty() || href.starts_with('#') || href.len() > LONGEST_LINK {
            return None;
        }
        let url = self.base.join(href).ok()?;
        let known = ["http", "https", "mailto"].contains(&url.scheme()) && url.as_str().len() <= LONGEST_LINK;
        known.then(|| url.into())
    }

    fn end_link(&mut self) {
        let Some((url, before)) = self.link.take() else { return };
        if self.page.text.len() == before {
            return;
        }
        let links = &mut self.page.links;
        let at = self.page.text.len();
        let number = *self.numbers.entry(url).or_insert_with_key(|url| {
            links.push(Link { url: url.clone(), at });
            links.len()
        });
        self.page.text.push_str(&format!(" [{number}]"));
    }
}

/// Whether nobody would read what is in this element: no text, or hidden from who looks at the page.
fn is_left_out(tag: &StartTag<()>) -> bool {
    let name: &[u8] = &tag.name;
    match name {
        b"svg" | b"math" => !tag.self_closing,
        b"script" | b"style" | b"noscript" | b"template" | b"iframe" | b"object" | b"canvas" | b"audio" | b"video" | b"select"
        | b"datalist" | b"textarea" | b"noembed" | b"noframes" => true,
        // Only of elements that have to be closed: else what follows would be hidden, too.
        b"div" | b"span" | b"section" | b"article" | b"aside" | b"nav" | b"header" | b"footer" | b"main" | b"form" | b"ul" | b"ol"
        | b"table" | b"a" | b"b" | b"i" | b"em" | b"strong" | b"font" | b"blockquote" | b"details" | b"dialog" | b"figure" => {
            attribute(tag, b"hidden").is_some()
                || attribute(tag, b"aria-hidden").is_some_and(|v| v.eq_ignore_ascii_case("true"))
                || attribute(tag, b"style").is_some_and(|style| hides(&style))
        }
        _ => false,
    }
}

fn hides(style: &str) -> bool {
    let style: String = style.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
    style.split(';').any(|rule| {
        let rule = rule.trim_end_matches("!important");
        matches!(rule, "display:none" | "visibility:hidden" | "opacity:0" | "font-size:0" | "font-size:0px")
    })
}

/// Breaks around an element.
fn gap(name: &[u8]) -> usize {
    match name {
        b"p" | b"figure" | b"dl" | b"fieldset" | b"details" => 2,
        b"address" | b"article" | b"aside" | b"body" | b"caption" | b"center" | b"dd" | b"dialog" | b"dir" | b"div" | b"dt"
        | b"figcaption" | b"footer" | b"form" | b"frameset" | b"header" | b"hgroup" | b"html" | b"legend" | b"main" | b"nav"
        | b"search" | b"section" | b"summary" | b"thead" | b"tbody" | b"tfoot" => 1,
        _ => 0,
    }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    tag.attributes.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn shown(html: &str, expected: &Expect) {
        let page = read(html, &Url::parse("https://example.com/dir/page?q#f").unwrap());
        let links: String = page.links.iter().enumerate().map(|(n, link)| format!("\n[{}] {}", n + 1, link.url)).collect();
        for link in &page.links {
            assert!(page.text[link.at..].starts_with(" ["), "{link:?}");
        }
        expected.assert_eq(&format!("<{}>\n{}{links}\n", page.title, page.text));
    }

    #[test]
    fn a_page() {
        shown(
            r##"<!DOCTYPE html><html><head><title>A &amp;
                B</title><style>p { color: red }</style><script>if (a < b) alert("<p>no</p>")</script></head>
            <body><nav><a href="/">Home</a> <a href="#top">Top</a> <a href="javascript:alert(1)">Go</a></nav>
            <h1>One <em>head</em></h1><p>Some   text,&nbsp;<b>bold</b>&hellip; &lt;i&gt; &#x41;&#66;<p>Next<br>line
            <a href="other">a <i>link</i></a>, <a href="other">again</a>, <a href="//x.test/%20?a=b&amp;c">away</a>.
            <img src=x alt=" A cat "><img src=y alt=""><a href=p.png><img src=p></a></p>
            <!-- no --><hr><ul><li>one<li>two<ul><li>inner</ul><li><h3>three</h3></ul><ol start=9><li>nine<li>ten</ol>
            <blockquote>Said<p>twice</blockquote><dl><dt>Term<dd>Meaning</dl><q>Q</q></body></html>"##,
            &expect![[r#"
                <A & B>
                Home [1] Top Go

                # One head

                Some text, bold… <i> AB

                Next
                line a link [2], again [2], away [3]. [image: A cat]

                ---

                - one
                - two
                  - inner

                - ### three

                9. nine
                10. ten

                > Said
                >
                > twice

                Term
                Meaning

                “Q”
                [1] https://example.com/
                [2] https://example.com/dir/other
                [3] https://x.test/%20?a=b&c
            "#]],
        );
    }

    #[test]
    fn tables_stay_legible_and_layouts_do_not_collapse() {
        shown(
            "<table><caption>Sizes</caption><thead><tr><th>Name<th>Size<th></thead><tr><td>a</td><td></td><td><div>1</div>\n<div>2</div>\
             <tr><td>b<td>3<br>4<td>5</table>after\
             <table><tr><td><p>First</p><p>Second</p><table><tr><td>x<td>y</table></td></tr></table>",
            &expect![[r#"
                <>
                Sizes
                Name | Size |
                --- | --- | ---
                a | | 1 2
                b | 3 4 | 5

                after

                First

                Second

                x | y
            "#]],
        );
    }

    #[test]
    fn what_is_set_as_it_is_written_stays_so() {
        shown(
            "a<pre>\n fn  f() {\n   1 &lt; 2\n\n }\n</pre>b<pre>x</pre>",
            &expect![[r#"
            <>
            a

            ```

             fn  f() {
               1 < 2

             }
            ```

            b

            ```
            x
            ```
        "#]],
        );
    }

    #[test]
    fn nothing_that_a_reader_would_not_see() {
        shown(
            "a<div hidden>1</div><span style='display : none'>2<span>3</span></span><p aria-hidden=true>b</p><div aria-hidden=TRUE>4</div>\
             <noscript>5</noscript><template>6</template><svg><title>7</title><text>8</text></svg><svg/>c<textarea>9</textarea>\
             <select><option>0</select><font style=\"color:red;FONT-SIZE:0px\">-</font>d\u{200b}\u{202e}e\u{e0041}\u{7}f👩\u{200d}🔬",
            &expect![[r#"
                <>
                a

                b

                cdef👩‍🔬
            "#]],
        );
    }

    #[test]
    fn broken_pages() {
        for html in [
            "",
            "<",
            "<p",
            "</",
            "&",
            "&#",
            "&#xffffffff;",
            "<a href",
            "<!--",
            "<!DOCTYPE",
            "<title>",
            "<script>x",
            "</p></div></li></ul></table></tr>",
            "<td>a<td>b",
            "<li>x",
            "<pre>",
            "</pre></pre>",
            "<a href=http://[>x</a>",
            "<base href=http://[><a href=x>y</a>",
            "<h1><h2></h1>",
            "<ol start=99999999999><li>x",
            "<ol start=4294967295><li>x<li>y",
            "\0",
            "<table><tr><td><tr></table></table>",
        ] {
            read(html, &Url::parse("https://example.com/").unwrap());
        }
        shown(
            "<base href='https://b.test/c/'><base href='https://no.test/'><a href=d>x<a href=e>y",
            &expect![[r#"
            <>
            x [1]y
            [1] https://b.test/c/d
        "#]],
        );
        shown(
            "<td>a<td>b<li>c</h1>d<ol start=4294967295><li>x<li>y",
            &expect![[r#"
            <>
            a
            b
            - c

            d

            4294967295. x
            4294967295. y
        "#]],
        );
    }

    /// Pages that are made to overflow a stack, and such as cost a reader that is not linear minutes, or all memory.
    #[test]
    fn hostile_pages_cost_what_their_bytes_cost() {
        let url = Url::parse("https://example.com/").unwrap();
        // Far beyond what a stack of 2 MiB holds, and long enough for a square to show; this build is not optimised.
        let nested = |tag: &str| format!("{}x", tag.repeat(if tag.len() < 7 { 30_000 } else { 15_000 }));
        const LONG: usize = 1 << 18;
        let formatted: String = (0..10_000).map(|n| format!("<b id={n}>")).chain((0..10_000).map(|_| "<p>x".to_owned())).collect();
        let attributes: String = (0..15_000).map(|n| format!(" a{n}=b")).collect();
        let same: String = " a=b".repeat(25_000);
        let links: String = (0..10_000).map(|n| format!("<a href={n}>x</a>")).collect();
        for html in [
            nested("<div>"),
            nested("<b>"),
            nested("<ul><li>"),
            nested("<ol><li>"),
            nested("<blockquote>"),
            nested("<table><tr><td>"),
            nested("<pre>"),
            nested("<svg>"),
            nested("<div hidden>"),
            nested("<a href=x>"),
            nested("<h1>"),
            nested("<br>"),
            nested("</div>"),
            nested("<"),
            nested("&"),
            nested("&am"),
            nested("<!--"),
            nested("<![CDATA["),
            nested("<script>"),
            nested("<title>"),
            formatted,
            format!("<p{attributes}>x"),
            format!("<p{same}>x"),
            format!("<p a='{}'>x", "y".repeat(LONG)),
            format!("<{}>x", "y".repeat(LONG)),
            format!("<a href='{}'>x</a>", "y".repeat(LONG)),
            format!("<div style='{}'>x</div>", ";".repeat(LONG)),
            format!("<!--{}", "-".repeat(LONG)),
            links,
            " ".repeat(LONG),
            "x".repeat(LONG),
        ] {
            let page = read(&html, &url);
            let links: usize = page.links.iter().map(|link| link.url.len()).sum();
            assert!(
                page.text.len() + links <= html.len() * 16 + 100,
                "{} bytes of {} in {:.40}",
                page.text.len() + links,
                html.len(),
                html
            );
        }
    }
}
