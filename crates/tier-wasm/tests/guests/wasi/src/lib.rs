//! A plugin that tries what WASI has, one thing a call, and says what came of it. Its other half is the world of plugins, as of any.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde_json::{Value, json},
};
use wasip2::{
    cli::{environment, exit, stderr, stdin, stdout, terminal_stdout},
    clocks::{monotonic_clock, wall_clock},
    filesystem::{
        preopens,
        types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags},
    },
    random,
    sockets::{instance_network, ip_name_lookup, network::IpAddressFamily, tcp_create_socket, udp_create_socket},
};

bespoke_guest_wasm::export!(BESPOKE_PLUGIN);
bespoke_plugin_api::plugin!("wasi-guest", Guest);

/// One instance.
pub struct Guest;

impl Plugin for Guest {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("wasi", "Tries it."), |_| Arc::new(Try));
    }

    async fn start(_: PluginContext, _: Value) -> Result<Self> {
        Ok(Guest)
    }
}

struct Try;

#[async_trait]
impl Tool for Try {
    async fn call(&self, _: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        Ok(ToolOutput::text(match tried(&request.args) {
            Ok(said) => said,
            Err(why) => format!("refused: {why}"),
        }))
    }
}

type Tried = std::result::Result<String, String>;

fn tried(args: &Value) -> Tried {
    let text = |key: &str| args[key].as_str().unwrap_or_default();
    let number = args["n"].as_u64().unwrap_or_default();
    let path = text("path");
    // The folder that is named, or the first one.
    let folder = || folder(text("folder"));
    Ok(match text("do") {
        "folders" => json!(preopens::get_directories().into_iter().map(|(_, name)| name).collect::<Vec<_>>()).to_string(),
        "read" => {
            let flags = if args["no_follow"] == true { PathFlags::empty() } else { PathFlags::SYMLINK_FOLLOW };
            let file = at(folder()?.open_at(flags, path, OpenFlags::empty(), DescriptorFlags::READ))?;
            String::from_utf8_lossy(&at(file.read(4096, 0))?.0).into_owned()
        }
        "write" => {
            let may = DescriptorFlags::READ | DescriptorFlags::WRITE;
            let file = at(folder()?.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::CREATE, may))?;
            at(file.write(text("text").as_bytes(), 0))?.to_string()
        }
        "truncate" => done(folder()?.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::TRUNCATE, DescriptorFlags::WRITE))?,
        "mkdir" => done(folder()?.create_directory_at(path))?,
        "remove" => done(folder()?.unlink_file_at(path))?,
        "touch" => done(folder()?.set_times_at(PathFlags::empty(), path, NewTimestamp::Now, NewTimestamp::Now))?,
        "symlink" => done(folder()?.symlink_at(text("to"), path))?,
        "rename" => done(folder()?.rename_at(path, &self::folder(text("into"))?, text("to")))?,
        "link" => done(folder()?.link_at(PathFlags::empty(), path, &self::folder(text("into"))?, text("to")))?,
        "list" => {
            let entries = at(folder()?.read_directory())?;
            let mut names: Vec<String> = std::iter::from_fn(|| entries.read_directory_entry().ok()?.map(|entry| entry.name)).collect();
            names.sort();
            json!(names).to_string()
        }
        "tcp" => done(tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4))?,
        "udp" => done(udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4))?,
        "lookup" => {
            let stream = at(ip_name_lookup::resolve_addresses(&instance_network::instance_network(), "localhost"))?;
            stream.subscribe().block();
            done(stream.resolve_next_address())?
        }
        "env" => json!([environment::get_environment(), environment::get_arguments(), environment::initial_cwd()]).to_string(),
        "terminal" => terminal_stdout::get_terminal_stdout().is_some().to_string(),
        "stdin" => done(stdin::get_stdin().blocking_read(1))?,
        "stdout" => done(stdout::get_stdout().blocking_write_and_flush(text("text").as_bytes()))?,
        "stderr" => done(stderr::get_stderr().blocking_write_and_flush(text("text").as_bytes()))?,
        "flood" => {
            for n in 0..number {
                at(stdout::get_stdout().blocking_write_and_flush(format!("line {n}\n").as_bytes()))?;
            }
            number.to_string()
        }
        "now" => wall_clock::now().seconds.to_string(),
        "random" => (random::random::get_random_bytes(number) != random::random::get_random_bytes(number)).to_string(),
        "sleep" => {
            let begun = monotonic_clock::now();
            monotonic_clock::subscribe_duration(number * 1_000_000).block();
            (monotonic_clock::now() - begun >= number * 1_000_000).to_string()
        }
        // Waits for nothing, over and over.
        "spin" => loop {
            monotonic_clock::subscribe_duration(0).block();
        },
        "hoard" => {
            let kept: Vec<_> = (0..number).map(|_| monotonic_clock::subscribe_duration(1)).collect();
            kept.len().to_string()
        }
        "exit" => {
            exit::exit(Err(()));
            String::new()
        }
        other => return Err(format!("nobody knows {other}")),
    })
}

/// A folder that was given, by its name.
fn folder(name: &str) -> std::result::Result<Descriptor, String> {
    let all = preopens::get_directories();
    all.into_iter().find(|(_, is)| name.is_empty() || is == name).map(|(folder, _)| folder).ok_or("there is no such folder".to_owned())
}

fn at<T, E: std::fmt::Debug>(tried: std::result::Result<T, E>) -> std::result::Result<T, String> {
    tried.map_err(|e| format!("{e:?}"))
}

fn done<T, E: std::fmt::Debug>(tried: std::result::Result<T, E>) -> Tried {
    at(tried).map(|_| "done".to_owned())
}
