//! Where to cut long audio: stretches of sound between pauses, none longer than the model likes. This finds pauses, not
//! speech: a voice activity detector in front of the recogniser says what is speech.
//!
//! The level of each 20 ms frame is compared with a threshold between the recording's own noise floor and its loud
//! frames, so gain does not matter. Cuts fall into the longest pause that keeps a stretch below the limit; sound that
//! goes on for longer than the limit is cut at its quietest moment.

use std::ops::Range;
use std::time::Duration;

use crate::engine::SAMPLE_RATE;

/// 20 ms: short enough to see the gap before a word, long enough to hold two periods of a deep voice.
const FRAME: usize = SAMPLE_RATE as usize / 50;
const FRAMES_PER_SECOND: usize = 50;

/// The longest stretch that is given to the model in one piece: 12 s. On long input Moonshine drops sentences and loops
/// (45 s of telephone prompts end in one sentence said over and over). On 21 mixtures of read speech, 16 to 70 s long,
/// limits of 6, 8, 10, 12, 14, 16 and 18 s gave 6.4, 6.4, 6.0, 5.4, 5.5, 5.0 and 5.3 % wrong words, at rising cost.
const MAX_FRAMES: usize = 12 * FRAMES_PER_SECOND;
/// A pause of this length always ends a stretch: sentences this far apart gain nothing from each other.
pub const LONG_PAUSE: Duration = Duration::from_millis(1500);
const LONG_PAUSE_FRAMES: usize = LONG_PAUSE.as_millis() as usize * FRAMES_PER_SECOND / 1000;
/// Shorter gaps are the closures of plosives and breaths within a phrase.
const SHORT_GAP: usize = FRAMES_PER_SECOND / 5;
/// Shorter sounds standing alone are clicks.
const CLICK: usize = 3;
/// Kept before and after a stretch where there is room, for quiet onsets and endings.
const PADDING: usize = FRAMES_PER_SECOND / 4;

/// Levels below this, in dB relative to full scale, are digital silence: half a step of 16-bit audio is at −96 dB.
const LOWEST_DB: f32 = -80.0;
/// A recording whose loudest frames stay below this is silent.
const SILENT_PEAK_DB: f32 = -65.0;
/// Frames of stationary noise differ by about ±1 dB; speech spans 20 dB and more.
const STATIONARY_DB: f32 = 3.0;
/// The threshold's place between noise floor (0) and loud frames (1).
const THRESHOLD_SHARE: f32 = 0.2;

/// The stretches of sound in 16 kHz audio, as sample ranges in order, none overlapping, each at most 12.5 s. Silence
/// and stationary noise have none.
pub fn stretches(audio: &[f32]) -> Vec<Range<usize>> {
    let levels: Vec<f32> = audio.chunks(FRAME).map(level_db).collect();
    let Some(threshold) = threshold(&levels) else { return Vec::new() };
    let mut groups = group(sounds(&levels, threshold), &levels);
    pad(&mut groups, levels.len());
    groups.into_iter().map(|g| g.start * FRAME..(g.end * FRAME).min(audio.len())).collect()
}

/// Level of a frame in dB relative to full scale.
fn level_db(frame: &[f32]) -> f32 {
    let power = frame.iter().map(|s| s * s).sum::<f32>() / frame.len() as f32;
    (10.0 * power.log10()).max(LOWEST_DB)
}

/// None where nothing in the recording stands out of its noise.
fn threshold(levels: &[f32]) -> Option<f32> {
    let mut sorted = levels.to_vec();
    sorted.sort_by(f32::total_cmp);
    let floor = *sorted.get(sorted.len() / 10)?;
    // The fifth loudest frame: 0.1 s of sound, so that a single click does not set the scale.
    let peak = sorted[sorted.len().saturating_sub(5)];
    let stationary = levels.len() >= FRAMES_PER_SECOND && peak - floor < STATIONARY_DB;
    (peak > SILENT_PEAK_DB && !stationary).then_some(floor + (peak - floor) * THRESHOLD_SHARE)
}

/// Runs of loud frames, joined over short gaps, without clicks.
fn sounds(levels: &[f32], threshold: f32) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (frame, _) in levels.iter().enumerate().filter(|(_, level)| **level >= threshold) {
        match runs.last_mut() {
            Some(run) if frame - run.end < SHORT_GAP => run.end = frame + 1,
            _ => runs.push(frame..frame + 1),
        }
    }
    runs.retain(|run| run.len() > CLICK);
    runs
}

/// Joins runs to stretches below the limit, and cuts runs above it.
fn group(runs: Vec<Range<usize>>, levels: &[f32]) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = runs.into_iter().flat_map(|run| cut(run, levels)).collect();
    let mut groups = Vec::new();
    while !pieces.is_empty() {
        let start = pieces[0].start;
        let fits = pieces.iter().take_while(|piece| piece.end - start <= MAX_FRAMES).count().max(1);
        let gap_after = |i: usize| pieces.get(i + 1).map_or(usize::MAX, |next| next.start - pieces[i].end);
        let long_pause = (0..fits).find(|&i| gap_after(i) >= LONG_PAUSE_FRAMES);
        // All that fits, up to a long pause; else up to the longest gap in the later half of what is allowed.
        let last = long_pause.unwrap_or_else(|| {
            (0..fits)
                .filter(|&i| pieces[i].end - start >= MAX_FRAMES / 2 || i + 1 == fits)
                .max_by_key(|&i| gap_after(i))
                .unwrap_or(fits - 1)
        });
        groups.push(start..pieces[last].end);
        pieces.drain(..=last);
    }
    groups
}

/// Cuts a run that is too long at its quietest moments.
fn cut(mut run: Range<usize>, levels: &[f32]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    while run.len() > MAX_FRAMES {
        let candidates = run.start + MAX_FRAMES / 2..run.start + MAX_FRAMES - 1;
        let quietest = candidates
            .min_by(|&a, &b| smooth(levels, a).total_cmp(&smooth(levels, b)))
            // The range is never empty: it is half the limit long.
            .unwrap_or(run.start + MAX_FRAMES / 2);
        pieces.push(run.start..quietest);
        run.start = quietest;
    }
    pieces.push(run);
    pieces
}

/// Mean level of 100 ms around a frame.
fn smooth(levels: &[f32], frame: usize) -> f32 {
    let around = &levels[frame.saturating_sub(2)..(frame + 3).min(levels.len())];
    around.iter().sum::<f32>() / around.len() as f32
}

/// Widens each stretch by the padding, or by half of the gap to its neighbour.
fn pad(groups: &mut [Range<usize>], frames: usize) {
    let mut earlier_end = 0;
    for i in 0..groups.len() {
        let before = if i == 0 { groups[0].start } else { (groups[i].start - earlier_end) / 2 };
        let after = match groups.get(i + 1) {
            Some(next) => (next.start - groups[i].end).div_ceil(2),
            None => frames - groups[i].end,
        };
        earlier_end = groups[i].end;
        groups[i].start -= before.min(PADDING);
        groups[i].end += after.min(PADDING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of tone (true) or of near silence (false), with a little noise over all of it.
    fn recording(parts: &[(bool, f32)], gain: f32) -> Vec<f32> {
        let mut noise = 1u32;
        let mut audio = Vec::new();
        for &(loud, seconds) in parts {
            for i in 0..(seconds * SAMPLE_RATE as f32) as usize {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let hiss = (noise >> 8) as f32 / (1 << 24) as f32 - 0.5;
                let tone = if loud { 0.3 * (i as f32 * 0.06).sin() } else { 0.0 };
                audio.push(gain * (tone + 0.002 * hiss));
            }
        }
        audio
    }

    fn seconds(stretches: &[Range<usize>]) -> Vec<(f32, f32)> {
        let seconds = |samples: usize| samples as f32 / SAMPLE_RATE as f32;
        stretches.iter().map(|s| (seconds(s.start), seconds(s.end))).collect()
    }

    #[test]
    fn silence_and_stationary_noise_have_no_stretches() {
        assert!(stretches(&[]).is_empty());
        assert!(stretches(&[0.0; 5]).is_empty());
        assert!(stretches(&vec![0.0; 160_000]).is_empty());
        assert!(stretches(&recording(&[(false, 5.0)], 1.0)).is_empty(), "quiet hiss");
        assert!(stretches(&recording(&[(false, 5.0)], 200.0)).is_empty(), "loud hiss");
    }

    #[test]
    fn short_audio_stays_whole_and_long_pauses_cut_at_any_gain() {
        for gain in [0.05, 1.0, 3.0] {
            let one = recording(&[(false, 1.0), (true, 2.0), (false, 0.6), (true, 2.0), (false, 1.0)], gain);
            assert_eq!(seconds(&stretches(&one)), [(0.76, 5.84)], "gain {gain}");
            let two = recording(&[(true, 2.0), (false, 2.0), (true, 2.0)], gain);
            assert_eq!(seconds(&stretches(&two)), [(0.0, 2.24), (3.76, 6.0)], "gain {gain}");
        }
    }

    #[test]
    fn long_speech_is_cut_in_its_longest_late_pause() {
        let parts = [(true, 3.0), (false, 0.9), (true, 4.0), (false, 0.6), (true, 3.0), (false, 0.3), (true, 3.0)];
        let found = stretches(&recording(&parts, 1.0));
        assert_eq!(seconds(&found), [(0.0, 8.14), (8.26, 14.8)]);
    }

    #[test]
    fn endless_sound_is_cut_below_the_limit_and_nothing_is_lost() {
        let audio = recording(&[(true, 0.15), (false, 0.05)].repeat(200), 1.0);
        let found = stretches(&audio);
        assert!(found.iter().all(|s| s.len() <= 13 * SAMPLE_RATE as usize), "{found:?}");
        assert!(found.windows(2).all(|w| w[0].end == w[1].start), "{found:?}");
        assert_eq!((found[0].start, found[found.len() - 1].end), (0, audio.len()));
    }
}
