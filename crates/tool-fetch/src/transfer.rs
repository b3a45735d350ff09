//! One fetch: request after request while servers redirect, then as much of the body as may be read.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bespoke_plugin_api::{Code, Error, HttpReply, HttpRequest, PluginContext, bytes::Bytes};
use url::Url;

use crate::{
    Config,
    answer::{Answer, Content, brief, compression},
    html::{self, Page},
    text::{self, ContentType, Form},
};

/// What is asked for, best first.
const ACCEPT: &str = "text/html, application/xhtml+xml, text/markdown, text/plain, application/json;q=0.9, text/*;q=0.8, */*;q=0.1";

/// Why there is no answer.
pub(crate) enum Failure {
    /// The model is told.
    Refused { word: &'static str, text: String },
    /// The call fails.
    Broken(Error),
}

/// What one fetch needs.
pub(crate) struct Transfer {
    host: PluginContext,
    config: Arc<Config>,
    asked: String,
}

impl Transfer {
    pub(crate) fn new(host: PluginContext, config: Arc<Config>, asked: String) -> Self {
        Transfer { host, config, asked }
    }

    pub(crate) async fn fetch(self, url: Url) -> Result<Answer, Failure> {
        let mut seen = vec![url];
        loop {
            let url = &seen[seen.len() - 1];
            let reply = self.ask(url).await.map_err(|e| not_fetched(&seen, &e))?;
            let Some(location) = redirect(&reply) else { return self.read(url.clone(), reply).await };
            let stop = |word, why: String| Failure::Refused { word, text: format!("Not fetched: {why}.") };
            let location = location.map_err(|why| stop("INVALID_REDIRECT", format!("{} {why}", brief(url))))?;
            // Where to is not repeated: it is no address that could be asked, so it may be any text.
            let next = bespoke_address::redirected(url, &location)
                .map_err(|why| stop("INVALID_REDIRECT", format!("{} redirects to an address that {why}", brief(url))))?;
            if seen.contains(&next) {
                return Err(stop("REDIRECT_LOOP", format!("{} redirects to {}, which redirects to it", brief(url), brief(&next))));
            }
            if seen.len() > self.config.max_redirects as usize {
                let most = self.config.max_redirects;
                return Err(stop("TOO_MANY_REDIRECTS", format!("it redirects more than {most} times (`plugins.fetch.max_redirects`)")));
            }
            seen.push(next);
        }
    }

    async fn ask(&self, url: &Url) -> Result<HttpReply, Error> {
        let request = HttpRequest::new("GET", url.as_str())
            .header("accept", ACCEPT)
            // What is compressed may be a thousand times longer than it looks.
            .header("accept-encoding", "identity")
            .header("user-agent", self.config.user_agent.clone())
            .timeout(Duration::from_millis(self.config.timeout_ms.into()));
        self.host.http(request).await
    }

    async fn read(&self, url: Url, mut reply: HttpReply) -> Result<Answer, Failure> {
        let content_type = ContentType::parse(reply.header("content-type"));
        let mut answer = Answer {
            asked: self.asked.clone(),
            status: reply.status,
            content_type: content_type.essence.clone(),
            bytes: 0,
            more: false,
            content: Content::Page(Page::default()),
            note: None,
            url,
        };
        let size = reply.header("content-length").and_then(|len| len.trim().parse().ok());
        if let Some(encoding) =
            reply.header("content-encoding").filter(|e| !e.trim().eq_ignore_ascii_case("identity") && !e.trim().is_empty())
        {
            answer.content = Content::Encoded(compression(encoding));
            return Ok(answer);
        }
        if content_type.form() == Some(Form::Binary) {
            answer.content = Content::Binary(size);
            return Ok(answer);
        }
        let (bytes, more) = read_body(&mut reply, self.config.max_bytes as usize).await.map_err(|(e, bytes)| {
            let text = format!("Not fetched: {} broke off after {bytes} bytes: {}", brief(&answer.url), e.message());
            Failure::of(&e, text)
        })?;
        (answer.bytes, answer.more) = (bytes.len() as u64, more);
        drop(reply);

        let url = answer.url.clone();
        // Linear, but of a page that somebody else wrote: not on a thread that others wait for.
        let (content, note) = self.host.blocking(move || understand(&content_type, &bytes, more, &url)).await.map_err(Failure::Broken)?;
        answer.content = content.unwrap_or(Content::Binary(size));
        answer.note = note;
        Ok(answer)
    }
}

impl Failure {
    fn of(error: &Error, text: String) -> Self {
        match error.code() {
            Code::CANCELLED => Failure::Broken(error.clone()),
            code => Failure::Refused { word: code.name(), text },
        }
    }
}

/// Where a redirect leads; an error says what is wrong with it.
fn redirect(reply: &HttpReply) -> Option<Result<String, &'static str>> {
    if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let mut locations = reply.headers.iter().filter(|(name, _)| name == "location").map(|(_, value)| value);
    let Some(location) = locations.next() else { return Some(Err("redirects without saying where to")) };
    if locations.any(|other| other != location) {
        return Some(Err("redirects to two places at once"));
    }
    Some(Ok(location.clone()))
}

fn not_fetched(seen: &[Url], error: &Error) -> Failure {
    let mut text = match seen {
        [.., from, to] => format!("Not fetched: {} redirects to {}: {}", brief(from), brief(to), error.message()),
        _ => format!("Not fetched: {}", error.message()),
    };
    // Only for what the model itself asked for: a server that redirects must not get a person to open a host.
    if seen.len() > 1 {
        return Failure::of(error, text);
    }
    // The command of a refusal repeats the whole list of the user, which is not the model's to know.
    let of_data = |key| error.data().and_then(|data| data.get(key)?.as_str());
    match (error.code(), of_data("host"), of_data("key")) {
        (Code::PERMISSION_DENIED, Some(host), Some(key)) => text.push_str(&format!("\nThe user can allow it: add \"{host}\" to {key}")),
        (Code::PERMISSION_DENIED, ..) => {}
        _ => text.extend(error.help().into_iter().flat_map(|help| ["\n", help])),
    }
    Failure::of(error, text)
}

/// At most `limit` bytes, and whether there were more; on an error, after how many it came.
async fn read_body(reply: &mut HttpReply, limit: usize) -> Result<(Vec<u8>, bool), (Error, usize)> {
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|cx| reply.body.as_mut().poll_next(cx)).await {
        let piece: Bytes = piece.map_err(|e| (e, all.len()))?;
        let room = limit - all.len();
        all.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((all, true));
        }
    }
    Ok((all, false))
}

/// The text of a body; no content when it is none.
fn understand(content_type: &ContentType, mut bytes: &[u8], more: bool, url: &Url) -> (Option<Content>, Option<String>) {
    let form = text::form_of(content_type, bytes);
    if form == Form::Binary {
        return (None, None);
    }
    if more
        && let Err(e) = std::str::from_utf8(bytes)
        && e.error_len().is_none()
    {
        // The limit went through the middle of a character.
        bytes = &bytes[..e.valid_up_to()];
    }
    let (decoded, note) = text::decode(content_type, form, bytes);
    let page = match form {
        Form::Html => html::read(&decoded, url),
        _ => Page { text: text::visible(&decoded).trim().to_owned(), ..Page::default() },
    };
    (Some(Content::Page(page)), note)
}
