//! Running the tools that a model asked for, with hooks around each. A tool that fails is told to the model, not to the user.

use bespoke_host::{Host, Slot, State};
use bespoke_plugin_api::{CallCx, Code, Error, Kind, Part, Result, Tool, ToolCall, ToolOutput, ToolSpec};

/// Most bytes of a tool's answer that the model is shown; more would push the conversation out of its window.
const ANSWER_LIMIT: usize = 16 * 1024;

/// The tools that the model is told of: those of `names`, which are of tools or of plugins, or all that serve
/// unasked. A name that nothing provides is left out and logged: one tool that did not start must not silence the agent.
pub(crate) fn offered(host: &Host, names: Option<&[String]>) -> Vec<ToolSpec> {
    let all: Vec<Slot<dyn Tool>> = host.registry().all::<dyn Tool>();
    let mut slots: Vec<&Slot<dyn Tool>> = Vec::new();
    match names {
        Some(names) => {
            for name in names {
                let named = |slot: &&Slot<dyn Tool>| slot.name() == name || slot.plugin() == name;
                let before = slots.len();
                slots.extend(all.iter().filter(named).filter(|slot| slot.is_ready()));
                if slots.len() == before {
                    tracing::warn!(tool = name, why = why_not(host, name), "tool is left out");
                }
            }
        }
        None => slots.extend(all.iter().filter(|slot| slot.is_ready() && host.serves_unasked(slot.plugin()))),
    }
    let mut specs: Vec<ToolSpec> = Vec::new();
    for slot in slots {
        if specs.iter().all(|spec| spec.name != slot.name()) {
            specs.push(slot.spec().clone());
        }
    }
    specs
}

/// Why a name stands for no tool that serves.
fn why_not(host: &Host, name: &str) -> String {
    // A name is of a tool first; only then of a plugin.
    let plugin = host.rows().into_iter().find(|row| row.id == name && host.provider_of(Kind::Tool, name).is_none());
    match plugin {
        Some(row) if row.state != State::Ready => {
            format!("{name} is {}{}", row.state.name(), row.reason.map(|r| format!(": {r}")).unwrap_or_default())
        }
        Some(row) => format!("{name} offers no tool{}", row.reason.map(|r| format!(": {r}")).unwrap_or_default()),
        None => host.find::<dyn Tool>(name).map_or_else(|error| error.to_string(), |_| "it does not serve".into()),
    }
}

/// Runs one call. Whatever goes wrong becomes an answer that the model can read; only cancellation is an error.
pub(crate) async fn run(host: &Host, cx: &CallCx, call: ToolCall, offered: &[ToolSpec]) -> Result<(ToolCall, ToolOutput)> {
    let admit = |call: &ToolCall| {
        if offered.iter().any(|spec| spec.name == call.name) {
            return Ok(());
        }
        let names: Vec<_> = offered.iter().map(|spec| spec.name.as_str()).collect();
        let there_is = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Error::new(Code::PLUGIN_NOT_FOUND, format!("there is no tool `{}`; there is {there_is}", call.name)))
    };
    match host.call_tool_if(cx, call.clone(), admit).await {
        Ok(done) => Ok(done),
        Err(error) if error.code() == Code::CANCELLED && cx.is_cancelled() => Err(Error::cancelled()),
        Err(error) => {
            // Only the kind: a fault repeats arguments, which are what somebody said.
            tracing::warn!(tool = call.name, error = error.kind(), "tool failed");
            // A plugin that died may have said a secret last.
            let told = format!("{}: {}", error.kind(), error.message());
            Ok((call, ToolOutput::error(host.redactor().redact(&told))))
        }
    }
}

/// What the model reads of an answer: its texts, or its data if there are none; of bytes it is told that there are some.
pub(crate) fn for_model(output: &ToolOutput) -> String {
    let parts = output.content.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.clone()),
        Part::Blob { mime, bytes, .. } => Some(format!("[{} bytes of {mime}]", bytes.len())),
        // `Part` may grow: what this agent does not know, it leaves out.
        _ => None,
    });
    let mut text = parts.collect::<Vec<_>>().join("\n");
    if let (true, Some(data)) = (output.content.is_empty(), &output.data) {
        text = data.to_string();
    }
    if text.len() > ANSWER_LIMIT {
        let cut = text.floor_char_boundary(ANSWER_LIMIT);
        let left_out = text.len() - cut;
        text.truncate(cut);
        text.push_str(&format!("\n[{left_out} more bytes left out]"));
    }
    if output.is_error { format!("error: {text}") } else { text }
}

#[cfg(test)]
mod tests {
    use bespoke_host::Selection;
    use bespoke_plugin_api::{Descriptor, Health, Package, Plugin, PluginApi, PluginContext};
    use serde_json::json;

    use super::*;

    /// Runs, and offers nothing until it is configured.
    struct Shell;

    impl Plugin for Shell {
        type Config = serde_json::Map<String, serde_json::Value>;

        fn register(_api: &mut PluginApi<Self>) {}

        async fn start(_cx: PluginContext, _config: Self::Config) -> Result<Self> {
            Ok(Shell)
        }

        fn health(&self) -> Health {
            Health::Degraded("no program may be run until some are named".into())
        }
    }

    const MANIFEST: &str = "id = \"shell\"\ndescription = \"x\"\nauthor = \"x\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n\
                            [[provides]]\nkind = \"tool\"\nname = \"run_program\"\ndynamic = true\n";

    #[tokio::test]
    async fn a_tool_that_is_off_says_why_by_its_name_and_by_its_plugins() {
        let package = Package { name: "shell", version: "1.0.0", license: "MIT", manifest: MANIFEST, config_schema: "{}" };
        let descriptor: &'static Descriptor = Box::leak(Box::new(Descriptor::of::<Shell>("shell", package)));
        let host = Host::builder().plugins([descriptor]).build().unwrap();
        assert_eq!(why_not(&host, "shell"), "shell is unloaded");
        host.start(Selection::All).await;
        assert_eq!(why_not(&host, "shell"), "shell offers no tool: no program may be run until some are named");
        let by_name = why_not(&host, "run_program");
        assert!(by_name.ends_with("does not offer the tool `run_program`: no program may be run until some are named"), "{by_name}");
        assert!(why_not(&host, "walk").contains("no tool named `walk`"));
        let names = ["shell".to_owned(), "run_program".to_owned()];
        assert!(offered(&host, None).is_empty() && offered(&host, Some(&names)).is_empty());
        host.shutdown().await;
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(for_model(&ToolOutput::text("a".repeat(ANSWER_LIMIT))).len(), ANSWER_LIMIT);
        // Three bytes a character, and the limit is no multiple of three: it falls into the middle of one.
        let long = "€".repeat(ANSWER_LIMIT);
        let text = for_model(&ToolOutput::text(long.clone()));
        let (shown, note) = text.split_once('\n').unwrap();
        assert_eq!(shown, "€".repeat(ANSWER_LIMIT / 3));
        assert_eq!(note, format!("[{} more bytes left out]", long.len() - shown.len()));
    }

    #[test]
    fn data_bytes_and_faults_are_told() {
        let mut output = ToolOutput::default().with_data(json!({ "degrees": 21 }));
        assert_eq!(for_model(&output), r#"{"degrees":21}"#);
        output.content = vec![Part::text("a map"), Part::blob("image/png", vec![0; 7])];
        assert_eq!(for_model(&output), "a map\n[7 bytes of image/png]");
        assert_eq!(for_model(&ToolOutput::error("no map")), "error: no map");
        assert_eq!(for_model(&ToolOutput::default()), "");
    }
}
