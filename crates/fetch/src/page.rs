//! A project's page of a package index, in both formats: HTML (PEP 503) and JSON (PEP 691). No I/O.
//!
//! What it says about a file's digest is kept only to tell files apart; nothing is believed because of it.

use html5gum::{Token, Tokenizer};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

use crate::Sha256;

/// What is asked for, as PEP 691 recommends.
pub(crate) const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

/// One file of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) url: Url,
    /// As the page says.
    pub(crate) sha256: Option<Sha256>,
}

/// The files that `page` lists. Relative links are resolved against `base`, the address that the page came from.
pub(crate) fn links(page: &[u8], content_type: &str, base: &Url) -> Result<Vec<Link>, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = match kind.as_str() {
        "application/json" => true,
        "text/html" => false,
        kind if kind.ends_with("+json") => true,
        kind if kind.ends_with("+html") => false,
        _ => page.trim_ascii_start().starts_with(b"{"),
    };
    if json { from_json(page, base) } else { from_html(page, base) }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    meta: Meta,
    files: Vec<File>,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

fn from_json(page: &[u8], base: &Url) -> Result<Vec<Link>, String> {
    let page: Page = serde_json::from_slice(page).map_err(|e| format!("its page is no index page ({e})"))?;
    check_version(page.meta.api_version.as_deref())?;
    let link = |file: File| {
        let url = resolved(base, &file.url)?;
        Some(Link { name: file.filename, url, sha256: file.hashes.sha256.and_then(|text| text.parse().ok()) })
    };
    Ok(page.files.into_iter().filter_map(link).collect())
}

fn from_html(page: &[u8], base: &Url) -> Result<Vec<Link>, String> {
    let mut base = base.clone();
    let mut links = Vec::new();
    // The address of the anchor that is open, and its text so far.
    let mut open: Option<(Url, String)> = None;
    let mut close = |open: &mut Option<(Url, String)>| links.extend(open.take().and_then(|(url, text)| anchor(url, &text)));
    for token in Tokenizer::new(page).flatten() {
        match token {
            Token::StartTag(tag) => {
                let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
                match &tag.name[..] {
                    b"a" => {
                        close(&mut open);
                        open = attribute(b"href").and_then(|href| resolved(&base, &href)).map(|url| (url, String::new()));
                    }
                    b"base" => base = attribute(b"href").and_then(|href| resolved(&base, &href)).unwrap_or(base),
                    b"meta" if attribute(b"name").as_deref() == Some("pypi:repository-version") => {
                        check_version(attribute(b"content").as_deref())?;
                    }
                    _ => {}
                }
            }
            Token::EndTag(tag) if &tag.name[..] == b"a" => close(&mut open),
            Token::String(text) => {
                if let Some((_, so_far)) = &mut open {
                    so_far.push_str(&String::from_utf8_lossy(&text));
                }
            }
            _ => {}
        }
    }
    close(&mut open);
    Ok(links)
}

/// A wheel's name is the anchor's text; on pages that shorten it, the end of the address.
fn anchor(url: Url, text: &str) -> Option<Link> {
    let segment = url.path_segments()?.next_back()?;
    let segment = percent_decode_str(segment).decode_utf8_lossy();
    let name = if text.trim().ends_with(".whl") { text.trim() } else { &segment }.to_owned();
    let sha256 = url.fragment().and_then(|fragment| fragment.strip_prefix("sha256=")).and_then(|digest| digest.parse().ok());
    Some(Link { name, url, sha256 })
}

/// An address that can be downloaded from.
fn resolved(base: &Url, link: &str) -> Option<Url> {
    base.join(link.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// PEP 629: another major version means something that is not understood here.
fn check_version(version: Option<&str>) -> Result<(), String> {
    match version.map(|version| version.split('.').next().unwrap_or_default()) {
        None | Some("1") => Ok(()),
        Some(_) => Err(format!("its page has version {}, known is 1", version.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c";

    fn shown(page: &str, content_type: &str) -> Vec<String> {
        let base = Url::parse("https://index.example/base/simple/a-b/").unwrap();
        let links = links(page.as_bytes(), content_type, &base).unwrap();
        links.iter().map(|link| format!("{} {} {}", link.name, link.url, link.sha256.is_some())).collect()
    }

    #[test]
    fn both_formats_say_the_same() {
        let html = format!(
            "<!DOCTYPE html><html><head><meta name=\"pypi:repository-version\" content=\"1.3\"><title>x</title></head><body>\
             <A data-x='<a href=no>' HREF=\"../../packages/a_b-1%2Bl.whl#sha256={DIGEST}\">a_b-1+l.whl</A><br>\
             <a href=\"/f?a=1&amp;b=2\">\n a_b-2.whl </a><a href='https://files.example/x/a_b-3.whl#md5=0'>a_b-3…</a>\
             <a>no link</a><a href='javascript:x'>no</a><!-- <a href=no>a.whl</a> -->"
        );
        let json = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "a-b", "versions": [], "files": [
                {{"filename": "a_b-1+l.whl", "url": "../../packages/a_b-1%2Bl.whl", "hashes": {{"sha256": "{DIGEST}"}}, "yanked": true}},
                {{"filename": "a_b-2.whl", "url": "/f?a=1&b=2", "hashes": {{}}}},
                {{"filename": "a_b-3.whl", "url": "https://files.example/x/a_b-3.whl", "hashes": {{"md5": "0"}}, "size": 3}},
                {{"filename": "no.whl", "url": "file:///etc/passwd", "hashes": {{}}}}]}}"#
        );
        let without_fragments = |shown: Vec<String>| -> Vec<String> {
            shown.iter().map(|line| line.replace(&format!("#sha256={DIGEST}"), "").replace("#md5=0", "")).collect()
        };
        let expected = [
            "a_b-1+l.whl https://index.example/base/packages/a_b-1%2Bl.whl true",
            "a_b-2.whl https://index.example/f?a=1&b=2 false",
            "a_b-3.whl https://files.example/x/a_b-3.whl false",
        ];
        for kind in ["text/html; charset=utf-8", "application/vnd.pypi.simple.v1+html", ""] {
            assert_eq!(without_fragments(shown(&html, kind)), expected, "{kind}");
        }
        for kind in ["application/vnd.pypi.simple.v1+json", "application/json", "text/plain"] {
            assert_eq!(shown(&json, kind), expected, "{kind}");
        }
    }

    #[test]
    fn a_page_of_another_kind_is_refused() {
        let base = Url::parse("https://index.example/").unwrap();
        let refused = |page: &str| links(page.as_bytes(), "", &base).unwrap_err();
        assert!(refused(r#"{"meta": {"api-version": "2.0"}, "files": []}"#).contains("version 2.0"));
        assert!(refused("<meta name='pypi:repository-version' content='2.0'>").contains("version 2.0"));
        assert!(refused(r#"{"error": "no"}"#).contains("no index page"));
        assert_eq!(links(b"<base href='/x/'><a href=a.whl>a.whl</a>", "", &base).unwrap()[0].url.path(), "/x/a.whl");
    }
}
