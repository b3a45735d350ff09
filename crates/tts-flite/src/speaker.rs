//! The flite engine with its one voice: a clause in, samples out. Cutting and cleaning the text happen before.

use flite_rs::{Engine, Flow};

use crate::spoken::spoken;

// They come inside the crate flite-rs, whose own licence stands with those of all crates.
bespoke_plugin_api::notice! {
    name: "flite",
    files: ["cmu_us_kal16"],
    license: "Apache-2.0 AND LicenseRef-CMU",
    text: include_str!("../../../LICENSES/flite.txt"),
}

/// The rate of the voice in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// The voice: Kevin Lenzo's recordings at 16 kHz. The 8 kHz version of the same recordings would save 4 MB of binary,
/// and is understood less: of 40 Harvard sentences (lists 1 to 4, 325 words), both at flite's own pace, Moonshine tiny
/// gets 22 % of the words wrong with this voice and 26 % with the other. Listeners also miss all that is above 4 kHz.
pub const VOICE: &str = "kal16";

/// How long sounds last at speed 1.0, against flite's own default for the voice. On 12 short questions and answers,
/// Moonshine tiny gets 9 % of the words wrong at this pace and 16 % at flite's own; on 40 Harvard sentences it makes no
/// difference (24 and 22 %). Other paces and pitches were no better.
const PACE: f32 = 0.95;

/// Speeds that flite speaks without falling apart.
pub const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// A clause that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Whether there was any sound.
    pub audible: bool,
    /// Whether letters of scripts that the voice does not know were left out.
    pub left_out: bool,
}

/// An engine at one speed. Making one takes 0.2 ms: the tables are read where they lie in the binary.
pub struct Speaker {
    engine: Engine,
}

impl Speaker {
    /// A speaker at `speed` times the natural rate, within [`SPEEDS`].
    ///
    /// # Errors
    ///
    /// Only if the data inside the binary is damaged; the text says where.
    pub fn new(speed: f32) -> Result<Self, String> {
        let mut engine = Engine::try_new().map_err(|e| format!("the voice inside this program is damaged: {e:?}"))?;
        if !engine.select_voice(VOICE) {
            return Err(format!("flite was built without its voice {VOICE}"));
        }
        engine.set_duration_stretch(PACE / speed.clamp(*SPEEDS.start(), *SPEEDS.end()));
        Ok(Self { engine })
    }

    /// Says a clause. `sink` gets samples at [`SAMPLE_RATE`], a pitch period at a time (about 10 ms), and returns
    /// whether to go on. A clause without anything to say is silent.
    pub fn say(&self, clause: &str, mut sink: impl FnMut(&[i16]) -> bool) -> Said {
        let clause = spoken(clause);
        let mut audible = false;
        self.engine.synthesize_streaming(&clause.text, |period| {
            audible = true;
            if sink(period) { Flow::Continue } else { Flow::Stop }
        });
        Said { audible, left_out: clause.left_out }
    }
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker").field("voice", &VOICE).finish_non_exhaustive()
    }
}
