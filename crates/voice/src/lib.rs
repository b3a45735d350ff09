//! The voice turn: resample, VAD, STT, agent, TTS.
