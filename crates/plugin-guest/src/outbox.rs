//! Frames on their way to the host: two lanes, one buffer each, reused.

use bespoke_plugin_api::{Level, Result};
use bespoke_protocol::{Kind, Lane, LogHead, put_json};

/// Bytes on the data lane above which streams are not asked for more.
const HIGH_WATER: usize = 1 << 20;

/// Bytes on the control lane above which log lines are dropped and counted.
const LOG_LIMIT: usize = 256 << 10;

/// Bytes of one log line that travel.
const LINE_LIMIT: usize = 16 << 10;

#[derive(Default)]
pub(crate) struct Outbox {
    control: Vec<u8>,
    data: Vec<u8>,
    dropped_lines: u64,
}

impl Outbox {
    /// The buffer that frames of this kind go to.
    pub(crate) fn lane(&mut self, kind: Kind) -> &mut Vec<u8> {
        match kind.lane() {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.data.len() >= HIGH_WATER
    }

    pub(crate) fn log(&mut self, level: Level, line: &str) {
        if self.control.len() >= LOG_LIMIT {
            self.dropped_lines += 1;
            return;
        }
        let end = line.floor_char_boundary(LINE_LIMIT);
        let head = LogHead { level, line: line[..end].to_owned() };
        // A bounded line always fits a frame.
        let _: Result<()> = put_json(&mut self.control, Kind::LOG, 0, &head);
    }

    /// Moves everything to `out`, control first.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        out.append(&mut self.data);
        if self.dropped_lines > 0 {
            let lines = std::mem::take(&mut self.dropped_lines);
            self.log(Level::Warn, &format!("{lines} log lines were dropped: the plugin logs faster than the host reads"));
            out.append(&mut self.control);
        }
    }
}
