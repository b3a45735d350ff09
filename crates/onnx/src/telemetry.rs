//! The variable that keeps ONNX Runtime from reporting to its maker. It only says and sets; loading
//! is elsewhere.

/// The environment variable that ONNX Runtime 1.29 and later read before they report anything.
pub const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// Sets [`NO_TELEMETRY`] for this process and its children, unless the user has set it.
///
/// # Safety
/// The environment of a process must not change while another thread may read it, so this is called
/// as the first statement of `main`, before any thread is started.
#[allow(unsafe_code)] // changing the environment is unsafe since edition 2024
pub unsafe fn disable_telemetry() {
    if std::env::var_os(NO_TELEMETRY).is_none() {
        // SAFETY: the caller promises that no other thread exists.
        unsafe { std::env::set_var(NO_TELEMETRY, "1") };
    }
}

/// Whether [`NO_TELEMETRY`] is set to anything but "0" or nothing.
pub fn telemetry_disabled() -> bool {
    std::env::var_os(NO_TELEMETRY).is_some_and(|value| !value.is_empty() && value != "0")
}
