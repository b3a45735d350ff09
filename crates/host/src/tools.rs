//! The one way to a tool, whoever asks: hooks, arguments held against the schema, the guarded call, hooks. Which tools a caller
//! may name is the caller's to say.

use bespoke_plugin_api::{CallCx, Error, Result, Tool, ToolCall, ToolOutput, ToolRequest, ToolSpec};
use serde_json::{Value, json};

use crate::api::Services;

impl Services {
    /// See [`Host::call_tool_if`](crate::Host::call_tool_if).
    pub(crate) async fn call_tool(
        &self,
        cx: &CallCx,
        call: ToolCall,
        admit: impl Fn(&ToolCall) -> Result<()> + Send,
    ) -> Result<(ToolCall, ToolOutput)> {
        self.hooks.around_tool(cx, call, |call| async move { self.execute(cx, call, admit).await }).await
    }

    async fn execute(&self, cx: &CallCx, call: ToolCall, admit: impl Fn(&ToolCall) -> Result<()> + Send) -> Result<ToolOutput> {
        admit(&call)?;
        let slot = self.find::<dyn Tool>(&call.name)?;
        let args = checked(slot.spec(), call.args)?;
        slot.call_apart(cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await }).await
    }
}

/// The arguments as the plugin sees them, held against what it told the model. None at all are an empty object, as models write
/// either.
fn checked(spec: &ToolSpec, args: Value) -> Result<Value> {
    let args = if args.is_null() { json!({}) } else { args };
    let faults = bespoke_schema::check(&spec.input_schema, &args);
    if faults.is_empty() {
        return Ok(args);
    }
    let listed: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let data = faults.iter().map(|fault| json!({ "path": fault.path, "message": fault.message })).collect::<Vec<_>>();
    Err(Error::invalid_params(format!("the arguments do not fit the tool `{}`: {}", spec.name, listed.join("; ")))
        .with_data(json!({ "faults": data })))
}
