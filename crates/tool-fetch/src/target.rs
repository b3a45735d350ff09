//! Addresses that may be asked at all, whoever wrote them: a model, or a server that redirects. Which hosts may be asked is the
//! host's to say, by its one reading of `allow` and `allow_private`, for each request and for each address that a name leads to.

use url::Url;

/// Longest address, in bytes.
pub(crate) const LONGEST_URL: usize = 4096;

/// Reads an address. The fragment is left out: no server sees it.
///
/// # Errors
/// Why not, as the end of a sentence that begins with the address.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim_matches(' ');
    check_spelling(text)?;
    let url = Url::parse(text).map_err(|e| match e {
        url::ParseError::RelativeUrlWithoutBase => "is not absolute; begin with https://".to_owned(),
        e => format!("is no URL: {e}"),
    })?;
    check(url)
}

/// Reads the address that an answer from `from` leads to.
///
/// # Errors
/// As [`parse`].
pub(crate) fn redirected(from: &Url, location: &str) -> Result<Url, String> {
    check_spelling(location)?;
    let url = check(from.join(location).map_err(|e| format!("is no URL: {e}"))?)?;
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err("would go on without encryption".into());
    }
    Ok(url)
}

/// What parsers drop or turn around without a word, so that two of them may read two hosts.
fn check_spelling(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_URL {
        return Err(format!("has {} bytes; at most {LONGEST_URL} are sent", text.len()));
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("holds a space or a control character; percent-encode it".into());
    }
    if text.contains('\\') {
        return Err("holds a backslash, which some read as a slash; write %5C".into());
    }
    // `//user@host` and `https://user@host`, before a parser drops an empty name.
    let authority = text.split_once("//").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if authority.contains('@') && text.split(['/', '?', '#']).next().is_none_or(|first| first.is_empty() || first.ends_with(':')) {
        return Err("holds a user name, which is not sent".into());
    }
    Ok(())
}

fn check(mut url: Url) -> Result<Url, String> {
    if !["http", "https"].contains(&url.scheme()) {
        return Err("has a scheme other than http and https".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name, which is not sent".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".into());
    }
    url.set_fragment(None);
    Ok(url)
}

/// A text of somebody else as it may stand in a sentence: escaped, and of bounded length.
pub(crate) fn shown(text: &str, most: usize) -> String {
    let cut = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    let dots = if cut < text.len() { "…" } else { "" };
    format!("{}{dots}", text[..cut].escape_debug())
}
