//! The freshness of `config.schema.json`: the config struct is its source, the file is what ships.

use std::path::Path;

use serde::Serialize;

/// Checks that `config.schema.json` in a plugin's folder is the schema of its config struct; with `BESPOKE_UPDATE=1` in the
/// environment, writes it.
///
/// # Panics
/// When the file is missing or stale, with the command that mends it.
pub fn check_config_schema(manifest_dir: &str, schema: impl Serialize) {
    let fresh = match serde_json::to_string_pretty(&schema) {
        Ok(text) => text + "\n",
        Err(e) => panic!("the schema is no JSON: {e}"),
    };
    let path = Path::new(manifest_dir).join("config.schema.json");
    if std::env::var_os("BESPOKE_UPDATE").is_some_and(|v| v == "1") {
        if let Err(e) = std::fs::write(&path, &fresh) {
            panic!("{}: {e}", path.display());
        }
        return;
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == fresh,
        "{} is not the schema of the config struct; run the same test with BESPOKE_UPDATE=1 and commit the file.\nit should be:\n{fresh}",
        path.display()
    );
}
