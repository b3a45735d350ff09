//! Names the plugins of this binary, so that the linker keeps them. One line a plugin, nothing else; `cargo xtask tidy` checks it.

#[cfg(feature = "cuda")]
use bespoke_accel_cuda as _;
#[cfg(feature = "telegram")]
use bespoke_channel_telegram as _;
#[cfg(feature = "terminal")]
use bespoke_channel_terminal as _;
#[cfg(feature = "webhook")]
use bespoke_channel_webhook as _;
#[cfg(feature = "fake")]
use bespoke_fake as _;
#[cfg(feature = "exec")]
use bespoke_hook_exec as _;
#[cfg(feature = "post")]
use bespoke_hook_post as _;
#[cfg(feature = "openai")]
use bespoke_provider_openai as _;
#[cfg(feature = "smol")]
use bespoke_provider_smol as _;
#[cfg(feature = "moonshine")]
use bespoke_stt_moonshine as _;
#[cfg(feature = "clock")]
use bespoke_tool_clock as _;
#[cfg(feature = "fetch")]
use bespoke_tool_fetch as _;
#[cfg(feature = "files")]
use bespoke_tool_files as _;
#[cfg(feature = "shell")]
use bespoke_tool_shell as _;
#[cfg(feature = "flite")]
use bespoke_tts_flite as _;
#[cfg(feature = "energy")]
use bespoke_vad_energy as _;
#[cfg(feature = "silero")]
use bespoke_vad_silero as _;
