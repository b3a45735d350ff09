//! The main job: speech in, speech out.

use serde_json::Value;

use crate::{
    program::{User, files_below, fixtures},
    words::{word_error_rate, words},
};

/// What is read in the demo's first recording.
const AUSTEN: &[&str] = &["cold-hearted", "selfish", "ill-disposed"];

/// The demo has no network to go to: with this on the PATH there is neither pip nor npm.
fn without_tools(user: User) -> User {
    let nothing = user.work("no-tools");
    std::fs::create_dir(&nothing).unwrap();
    user.with("PATH", nothing)
}

#[track_caller]
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

#[test]
fn the_demo_hears_answers_and_speaks_and_fetches_nothing_that_is_there() {
    let user = without_tools(User::with_models());
    let summary = user.json(["demo", "--yes", "--json", "--out", "answer.wav"]);
    let turns = summary["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 2);
    for turn in turns {
        for key in ["recording", "transcript", "reply", "provider"] {
            assert!(!text(turn, key).is_empty(), "{key}");
        }
        assert_eq!(text(turn, "provider"), "smol");
        assert!(!turn["speech"].as_array().unwrap().is_empty());
        let engines: Vec<_> = turn["engines"].as_array().unwrap().iter().map(|engine| text(engine, "name")).collect();
        assert_eq!(engines, ["silero", "moonshine", "flite"]);
        let marks = turn["timeline"].as_object().unwrap();
        for mark in ["vad_ms", "transcript_ms", "first_token_ms", "last_token_ms", "first_audio_ms", "last_audio_ms"] {
            assert!(marks[mark].as_f64().unwrap() >= 0.0, "{mark}");
        }
    }
    for word in AUSTEN {
        assert!(text(&turns[0], "transcript").contains(word), "`{word}` is not in: {}", text(&turns[0], "transcript"));
    }
    assert_eq!(words(text(&turns[1], "transcript")).join(" "), "what is the capital of france");
    let answer = text(&turns[1], "reply");
    assert!(answer.contains("Paris"), "{answer}");

    assert_eq!(text(&summary, "reply_file"), "answer.wav");
    let heard = user.json(["transcribe", "answer.wav", "--json"]);
    let rate = word_error_rate(answer, text(&heard, "text"));
    println!("the answer: {answer:?}; heard again: {:?}; word error rate {:.1} %", text(&heard, "text"), rate * 100.0);
    assert!(text(&heard, "text").contains("Paris"), "{heard}");
    assert!(rate <= 0.25);

    // What is kept is that the files were checked, not the files.
    let kept = files_below(&user.home().join("models"));
    assert!(kept.iter().all(|file| file.parent().unwrap().ends_with(".verified")), "something was fetched: {kept:?}");
}

#[test]
fn the_demo_shows_what_happened() {
    let user = without_tools(User::with_models());
    let shown = user.run(["demo"]).ok();
    for part in [
        "turn 1",
        "turn 2",
        "engines",
        "silero → moonshine → smol → flite",
        "▕",
        "heard",
        "answer",
        "Paris",
        "first token +",
        "reply.wav (",
    ] {
        assert!(shown.out.contains(part), "`{part}` is not in:\n{}", shown.out);
    }
    assert!(!shown.out.contains('\x1b'), "colours in a pipe");
    assert!(user.work("reply.wav").is_file());
}

#[test]
fn the_demo_refuses_stand_ins() {
    for (place, kind) in [("agent]\nprovider", "provider"), ("voice]\nvad", "vad"), ("voice]\nstt", "stt"), ("voice]\ntts", "tts")] {
        let user = User::with_models().configured(&format!("[{place} = [\"fake\"]\n"));
        let refused = user.run(["demo", "--yes"]).code(1).nothing().says("try: ");
        assert!(refused.err.contains(&format!("the {kind} `fake`, a stand-in for tests")), "{}", refused.err);
        assert!(!user.work("reply.wav").exists());
    }
}

#[test]
fn stand_ins_do_not_step_in_unasked() {
    let answered = User::with_models().json(["ask", "--json", "What is the capital of France?"]);
    assert_eq!(text(&answered, "provider"), "smol");
    // And without a model there is no answer, rather than a scripted one.
    User::new().run(["ask", "What is the capital of France?"]).code(4).nothing();
}

#[test]
fn without_models_somebody_has_to_agree_and_offline_nobody_can() {
    let user = without_tools(User::new());
    let asked = user.run(["demo"]).code(4).nothing().says("nobody can be asked").says("try: the same command with --yes");
    for file in ["encoder_model.onnx", "tokenizer.json", "smollm2-135m-instruct-q4_1.gguf", "MIT", "Apache-2.0"] {
        assert!(asked.err.contains(file), "`{file}` is not in: {}", asked.err);
    }
    for args in [&["demo", "--offline"][..], &["demo", "--offline", "--yes"], &["ask", "hi", "--offline"]] {
        let missing = user.run(args).code(3).nothing();
        assert!(missing.err.contains(".gguf") || missing.err.contains(".onnx"), "{}", missing.err);
    }
    assert!(!user.work("reply.wav").exists());
}

#[test]
fn models_from_a_folder_are_checked_and_kept() {
    let source = User::with_models();
    let listed = source.json(["models", "--json"]);
    let model = listed.as_array().unwrap().iter().find(|row| row["plugin"] == "moonshine").unwrap();
    let folder = std::path::Path::new(text(model, "path")).parent().unwrap().to_owned();

    let user = without_tools(User::new());
    let dry = user.run([
        "plugin".as_ref(),
        "download-files".as_ref(),
        "moonshine".as_ref(),
        "--dry-run".as_ref(),
        "--from".as_ref(),
        folder.as_os_str(),
    ]);
    let dry = dry.ok().says("3 files (30.2 MB) would be fetched");
    assert!(["encoder_model.onnx", "0.1.21", "MIT"].iter().all(|cell| dry.out.contains(cell)), "{}", dry.out);
    assert!(!user.home().join("models/moonshine").exists());
    let fetch = |from: &std::path::Path| {
        user.run([
            "plugin".as_ref(),
            "download-files".as_ref(),
            "moonshine".as_ref(),
            "--offline".as_ref(),
            "--from".as_ref(),
            from.as_os_str(),
        ])
    };
    fetch(&folder).ok().nothing().says("3 files fetched");
    fetch(&folder).ok().nothing().says("every model file that is needed is here");
    let austen = fixtures().join("audio/librivox_0890.wav");
    let heard = user.run(["transcribe".as_ref(), austen.as_os_str()]).ok();
    assert!(heard.out.contains("selfish"), "{}", heard.out);

    // A file that is not what it says is no model.
    let forged = User::new();
    let fake = forged.work("models");
    std::fs::create_dir(&fake).unwrap();
    for file in ["encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json"] {
        let mut bytes = std::fs::read(folder.join(file)).unwrap();
        bytes[1_000] ^= 1;
        std::fs::write(fake.join(file), bytes).unwrap();
    }
    let refused = forged.run([
        "plugin".as_ref(),
        "download-files".as_ref(),
        "moonshine".as_ref(),
        "--offline".as_ref(),
        "--from".as_ref(),
        fake.as_os_str(),
    ]);
    refused.code(1).says("0 files fetched, 3 not");
    assert!(!forged.home().join("models/moonshine/encoder_model.onnx").exists());
}

#[test]
fn other_spoken_questions_are_answered_too() {
    const QUESTIONS: &[(&str, &[&str])] = &[
        ("What is the capital of Germany?", &["berlin"]),
        ("What is the capital of Japan?", &["tokyo"]),
        ("What is the capital of Spain?", &["madrid"]),
        ("What is the capital of Italy?", &["rome"]),
        ("How many days are there in a week?", &["seven", "7"]),
        ("What color is the sky?", &["blue"]),
    ];
    let user = User::with_models();
    let mut right = 0;
    for (question, answers) in QUESTIONS {
        user.run(["speak", question, "--out", "question.wav"]).ok().nothing();
        let turn = user.json(["say", "question.wav", "--json"]);
        let reply = text(&turn, "reply");
        let good = words(reply).iter().any(|word| answers.contains(&word.as_str()));
        println!("{} {question:?} heard as {:?}: {reply:?}", if good { "right" } else { "WRONG" }, text(&turn, "transcript"));
        right += usize::from(good);
    }
    println!("{right} of {} spoken questions answered right", QUESTIONS.len());
    assert!(right >= 4);
}

#[test]
fn say_prints_the_answer_and_writes_the_speech() {
    let user = User::with_models();
    user.run(["speak", "What is the capital of France?", "--out", "q.wav"]).ok().nothing().says("q.wav");
    let said = user.run(["say", "q.wav", "--out", "a.wav"]).ok().says("> What is the capital of France?").says("a.wav");
    assert!(said.out.contains("Paris"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    let wav = bespoke_audio::read_wav(&user.work("a.wav")).unwrap();
    assert!(wav.samples.len() as u32 > wav.rate / 2 && wav.samples.iter().any(|s| s.abs() > 0.05));
}

#[test]
fn nobody_speaking_is_told_and_is_no_answer() {
    let user = User::with_models();
    bespoke_audio::write_wav(&user.work("silence.wav"), &vec![0.0; 48_000], 16_000).unwrap();
    user.run(["say", "silence.wav", "--out", "a.wav"]).code(3).nothing().says("nobody says anything");
    let said = user.run(["say", "silence.wav", "--json"]).code(3);
    assert_eq!(said.value()["reply"], Value::Null);
    assert!(!user.work("a.wav").exists());
    user.run(["transcribe", "silence.wav"]).ok().nothing().says("nobody says anything");
}

#[test]
fn several_files_are_transcribed_and_a_bad_one_does_not_stop_the_others() {
    let user = User::with_models();
    std::fs::write(user.work("bad.wav"), b"no sound").unwrap();
    let good = fixtures().join("audio/librivox_0890.wav");
    let heard = user
        .run(["transcribe".as_ref(), "bad.wav".as_ref(), good.as_os_str(), "--json".as_ref()])
        .code(1)
        .says("bad.wav")
        .says("1 of 2 files");
    let lines = heard.lines();
    assert_eq!(lines.len(), 1);
    assert!(text(&lines[0], "text").contains("selfish"), "{lines:?}");
    assert!(text(&lines[0], "file").ends_with("librivox_0890.wav"));
}
