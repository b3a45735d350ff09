//! A plugin that does what plugins should not: it prints, reads, panics, blocks and exits.

use std::{
    io::Read,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Descriptor, Error, Package, Part, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec,
    async_trait,
};

pub(crate) static LOUD: Descriptor =
    Descriptor::of::<Loud>("loud", Package { name: "loud", version: "0.1.0", license: "Apache-2.0", manifest: "", config_schema: "{}" });

#[derive(serde::Deserialize)]
pub(crate) struct Config {}

pub(crate) struct Loud {
    cx: PluginContext,
    waiting: AtomicUsize,
}

impl Plugin for Loud {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("loud", "Does what it should not."), |loud| Arc::new(Do(loud.clone())));
    }

    async fn start(cx: PluginContext, _config: Config) -> Result<Self> {
        Ok(Loud { cx, waiting: AtomicUsize::new(0) })
    }
}

struct Do(Arc<Loud>);

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Tool for Do {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let text = request.args["text"].as_str().unwrap_or_default().to_owned();
        match request.args["do"].as_str().unwrap_or_default() {
            "say" => Ok(ToolOutput::text(text)),
            "blob" => {
                let len = request.args["len"].as_u64().unwrap_or(0) as usize;
                let mut output = ToolOutput::text("");
                output.content = vec![Part::blob("application/octet-stream", vec![7; len])];
                Ok(output)
            }
            "block" => {
                self.0.cx.blocking(move || std::thread::sleep(Duration::from_millis(1))).await?;
                Ok(ToolOutput::text(text))
            }
            "wait" => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                let _waiting = Waiting(&self.0.waiting);
                cx.cancelled().await;
                Err(Error::cancelled())
            }
            "count" => Ok(ToolOutput::text(self.0.waiting.load(Ordering::SeqCst).to_string())),
            "print" => {
                // Past the harness, which may hold what `println!` says.
                use std::io::Write;
                std::io::stdout().write_all(b"stray print\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n").unwrap();
                std::io::stdout().flush().unwrap();
                Ok(ToolOutput::text(""))
            }
            "read" => {
                assert_eq!(std::io::stdin().read(&mut [0; 8]).unwrap(), 0);
                Ok(ToolOutput::text(""))
            }
            "trace" => {
                tracing::warn!(n = 7, "from tracing");
                Ok(ToolOutput::text(""))
            }
            "panic" => panic!("on purpose"),
            "exit" => std::process::exit(7),
            other => Err(Error::invalid_params(format!("do {other}"))),
        }
    }
}
