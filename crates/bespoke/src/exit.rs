//! How a verb ends: exit codes, and the one error that every verb returns.

use std::{fmt, process::ExitCode};

use bespoke_host::ConfigError;
use bespoke_plugin_api::{Code, Error};

/// Exit codes, the same for every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    Usage,
    NotFound,
    Consent,
    Conflict,
    Verification,
    Network,
    Differences,
    Interrupted,
    /// As somebody else says it: `host --stdio`, by the codes of its own, or a command of a plugin.
    Of(u8),
}

impl Exit {
    /// The number that the program returns.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Consent => 4,
            Exit::Conflict => 5,
            Exit::Verification => 6,
            Exit::Network => 7,
            Exit::Differences => 10,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(feature = "models")]
impl From<bespoke_fetch::Class> for Exit {
    fn from(class: bespoke_fetch::Class) -> Self {
        use bespoke_fetch::Class;
        match class {
            Class::NotFound => Exit::NotFound,
            Class::Verification => Exit::Verification,
            Class::Network => Exit::Network,
            Class::Conflict => Exit::Conflict,
            Class::Cancelled => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }
}

/// Why a verb could not do its job, and the command that would help.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), help: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Another command that would help.
    #[must_use]
    pub(crate) fn or(mut self, help: impl AsRef<str>) -> Self {
        let first = self.help.take().map_or(String::new(), |first| format!("{first}\n   or: "));
        self.help = Some(first + help.as_ref());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  try: {help}")?;
        }
        Ok(())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code() {
            Code::PLUGIN_NOT_FOUND
            | Code::METHOD_NOT_FOUND
            | Code::MANIFEST_MISSING
            | Code::MODEL_NOT_FOUND
            | Code::LLM_MODEL_NOT_AVAILABLE
            | Code::TTS_VOICE_NOT_FOUND => Exit::NotFound,
            Code::INVALID_PARAMS | Code::CONTRACT_NOT_FOUND => Exit::Usage,
            Code::PERMISSION_DENIED => Exit::Consent,
            Code::ALREADY_LOADED | Code::CONFLICT => Exit::Conflict,
            Code::NETWORK_FAILED => Exit::Network,
            Code::CANCELLED => Exit::Interrupted,
            _ => Exit::Failed,
        };
        let message = if exit == Exit::Interrupted { "interrupted".to_owned() } else { error.to_string() };
        Failure { exit, help: error.help().map(str::to_owned), message }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::Usage, error.to_string())
    }
}

impl From<bespoke_audio::WavError> for Failure {
    fn from(error: bespoke_audio::WavError) -> Self {
        use bespoke_audio::WavError;
        let message = error.to_string();
        match error {
            WavError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, message),
            WavError::Header { path, .. } | WavError::Unsupported { path, .. } => {
                Failure::failed(message).help(format!("ffmpeg -i {} -c:a pcm_s16le NEW.wav", path.display()))
            }
            _ => Failure::failed(message),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::failed(error.to_string())
    }
}
