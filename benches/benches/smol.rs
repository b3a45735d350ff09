//! SmolLM2 here and in llama.cpp's server: time to the first token and tokens a second, on one thread each, by turns.
//!
//! llama.cpp comes out of the Python package `xllamacpp` 2026.10.11549: `pip install --target FOLDER xllamacpp==2026.10.11549`,
//! then `BESPOKE_XLLAMACPP=FOLDER`. The model is looked for as `smol/smollm2-135m-instruct-q4_1.gguf` in `BESPOKE_MODEL_PATH`.
//! Without either, as in a build of all benches, it says what is missing and measures nothing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bespoke_plugin_api::{
    Message,
    serde_json::{Value, json},
};
use bespoke_provider_smol::{
    engine::{Engine, EngineOptions, Generation},
    sampler::Sampling,
};

const TURNS: usize = 5;
const TOKENS: usize = 64;
/// Aims: at least half its tokens a second, and at most so many times its time to the first token.
const SPEED: f64 = 0.5;
const FIRST: f64 = 1.25;

/// One answer.
struct Measured {
    text: String,
    first: Duration,
    tokens_per_second: f64,
}

fn main() {
    let Some((model, packages)) = model().zip(std::env::var_os("BESPOKE_XLLAMACPP").map(PathBuf::from)) else {
        say("smol: set BESPOKE_MODEL_PATH and BESPOKE_XLLAMACPP to compare with llama.cpp; nothing was measured");
        return;
    };
    let options = EngineOptions { conversations: 1, ..EngineOptions::default() };
    let engine = Engine::load(&model, &options).expect("the model loads");
    let server = Server::start(&model, &packages);
    let (mut ours, mut theirs, mut second_ours, mut second_theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        // Another beginning each turn, so that no cache knows the prompt.
        let mut messages = vec![Message::system(format!("Turn {turn}. {SYSTEM}")), Message::user("Tell me a story about a dog.")];
        let (a, b) = (here(&engine, &messages), server.ask(&messages));
        // The conversation goes on with equal words on both sides.
        messages.push(Message::assistant(a.text.clone()));
        messages.push(Message::user("And what happened then?"));
        second_ours.push(here(&engine, &messages));
        messages[2] = Message::assistant(b.text.clone());
        second_theirs.push(server.ask(&messages));
        ours.push(a);
        theirs.push(b);
    }
    let prompt = engine.prompt(&[Message::system(format!("Turn 0. {SYSTEM}")), Message::user("Tell me a story about a dog.")], false);
    say(&format!("SmolLM2-135M, Q4_1, one thread each, prompt of {} tokens, best of {TURNS}", prompt.map_or(0, |p| p.len())));
    say("                      here    llama.cpp    ratio");
    let first = |all: &[Measured]| all.iter().map(|m| m.first.as_secs_f64() * 1e3).fold(f64::MAX, f64::min);
    let speed = |all: &[Measured]| all.iter().map(|m| m.tokens_per_second).fold(0.0, f64::max);
    row("tokens/s", speed(&ours), speed(&theirs), |ratio| ratio >= SPEED);
    row("first token, ms", first(&ours), first(&theirs), |ratio| ratio <= FIRST);
    row("its second turn, ms", first(&second_ours), first(&second_theirs), |ratio| ratio <= FIRST);
    let again = first(&second_ours) / first(&ours);
    say(&format!("the second turn's first token takes {again:.2} of the first's, with a prompt about twice as long: {}", aim(again < 1.0)));
}

const SYSTEM: &str = "You are a helpful assistant who likes to talk with people of every age about the things that they care for. \
     You answer in plain English, in whole sentences, without lists and without titles. You are friendly and calm. When you are \
     asked for a story, you tell one that is short, that has a beginning and an end, and in which nobody is hurt.";

fn row(what: &str, here: f64, there: f64, met: impl Fn(f64) -> bool) {
    let ratio = here / there;
    say(&format!("{what:<20} {here:>6.1} {there:>12.1} {ratio:>8.2}  {}", aim(met(ratio))));
}

fn aim(met: bool) -> &'static str {
    if met { "aim met" } else { "AIM MISSED" }
}

fn here(engine: &Engine, messages: &[Message]) -> Measured {
    let prompt = engine.prompt(messages, false).expect("it fits");
    let sampling = Sampling { repeat_penalty: 1.0, ..Sampling::default() };
    let request = Generation { prompt, max_tokens: TOKENS, sampling, stop: Vec::new(), schema: None };
    let mut text = String::new();
    let answer = engine.generate(&request, &|| false, &mut |piece| text += &piece).expect("an answer");
    let tokens_per_second = answer.completion_tokens.saturating_sub(1) as f64 / answer.rest.as_secs_f64();
    Measured { text, first: answer.first_token, tokens_per_second }
}

/// llama.cpp's server, which ends with this value.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(model: &Path, packages: &Path) -> Server {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/provider-openai/tests/openai_server.py");
        let python = std::env::var_os("BESPOKE_PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(python);
        command.arg(script).arg(model).env("PYTHONPATH", packages);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3 runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = lines.into_iter().find_map(|line| line.strip_prefix("listening http://").map(str::to_owned));
        Server { child, address: address.expect("the server starts").trim_end_matches('/').to_owned() }
    }

    fn ask(&self, messages: &[Message]) -> Measured {
        let said: Vec<Value> = messages.iter().map(|m| json!({ "role": m.role, "content": m.text })).collect();
        let body = json!({ "messages": said, "max_tokens": TOKENS, "temperature": 0.0, "stream": true, "cache_prompt": true }).to_string();
        let mut stream = TcpStream::connect(&self.address).expect("the server answers");
        stream.set_nodelay(true).expect("a socket");
        let start = Instant::now();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).expect("the server reads");
        let (mut text, mut first, mut last, mut tokens) = (String::new(), None, start, 0usize);
        for line in BufReader::new(stream.take(1 << 20)).lines().map_while(Result::ok) {
            let Some(event) = line.strip_prefix("data: ").and_then(|data| data.parse::<Value>().ok()) else { continue };
            if let Some(piece) = event["choices"][0]["delta"]["content"].as_str().filter(|piece| !piece.is_empty()) {
                text += piece;
                tokens += 1;
                last = Instant::now();
                first.get_or_insert(last - start);
            }
        }
        let first = first.expect("the server answers");
        let tokens_per_second = tokens.saturating_sub(1) as f64 / (last - start - first).as_secs_f64();
        Measured { text, first, tokens_per_second }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn model() -> Option<PathBuf> {
    let path = std::env::var_os("BESPOKE_MODEL_PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("smol/smollm2-135m-instruct-q4_1.gguf")).find(|file| file.is_file())
}

fn say(line: &str) {
    // Nobody reading any more is no failure.
    let _ = writeln!(std::io::stdout(), "{line}");
}
