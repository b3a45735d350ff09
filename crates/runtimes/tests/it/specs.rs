//! Names of packs, as they are written and mistyped.

use bespoke_runtimes::Spec;

#[test]
fn every_spec_is_read_as_it_is_written() {
    for spec in Spec::ALL {
        assert_eq!(spec.to_string().parse(), Ok(spec));
    }
}

#[test]
fn a_mistake_is_answered_with_what_may_have_been_meant() {
    for (written, words) in [
        ("onx:cpu", "there is no runtime \"onx:cpu\"; did you mean onnx:cpu?"),
        ("XLA:CUDA", "there is no runtime \"XLA:CUDA\"; did you mean xla:cuda?"),
        ("xla:gpu", "there is no runtime \"xla:gpu\"; did you mean xla:cpu?"),
        ("onnx", "there is no runtime \"onnx\"; did you mean onnx:cpu?"),
        ("tpu", "there is no runtime \"tpu\"; did you mean xla:tpu?"),
        ("nvrtc", "there is no runtime \"nvrtc\"; did you mean cuda:nvrtc?"),
        ("rocm", "there is no runtime \"rocm\"; there are onnx:cpu, onnx:cuda, xla:cpu, xla:cuda, xla:tpu, cuda:nvrtc"),
        ("", "there is no runtime \"\"; there are onnx:cpu, onnx:cuda, xla:cpu, xla:cuda, xla:tpu, cuda:nvrtc"),
    ] {
        assert_eq!(written.parse::<Spec>().unwrap_err().to_string(), words);
    }
}
