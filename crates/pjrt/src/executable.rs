//! A program that a client compiled. It checks what goes in before the plugin sees it; what comes out is in `client`.

use std::{fmt, sync::Arc};

use crate::{
    client::{Buffer, Client, Inner, tensor_type},
    error::PjrtError,
    proto,
    sys::{Args, Compile, Execute, ExecuteOptions, Handle, List, One, OutputDimensions, Place, Program, Size, Two, list, text},
    tensor::TensorType,
};

/// How a program is compiled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CompileOptions {
    /// The device that it runs on, by its number in [`Client::devices`].
    pub device: usize,
}

impl CompileOptions {
    /// For this device.
    pub fn on(device: usize) -> Self {
        CompileOptions { device }
    }
}

/// A program, ready to run on its device.
pub struct Executable {
    raw: Handle,
    client: Arc<Inner>,
    inputs: Vec<TensorType>,
    outputs: Vec<TensorType>,
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executable").field("inputs", &self.inputs).field("outputs", &self.outputs).finish()
    }
}

/// Most inputs or outputs that a program is believed to have.
const MOST: usize = 1 << 20;

impl Executable {
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub(crate) fn compile(client: &Client, program: &[u8], options: &CompileOptions) -> Result<Self, PjrtError> {
        let functions = &client.library().functions;
        let device = client.device(options.device)?;
        let options = proto::compile_options(Some(device.id));
        const FORMAT: &str = "mlir";
        // MLIR reads on until it finds a zero, whatever the size says.
        let mut code = Vec::with_capacity(program.len() + 1);
        code.extend_from_slice(program);
        code.push(0);
        let program = Args::new(Program {
            code: code.as_mut_ptr(),
            code_size: program.len(),
            format: FORMAT.as_ptr().cast(),
            format_size: FORMAT.len(),
        });
        let fields = Compile {
            client: client.inner.raw.place(),
            program: &raw const program,
            options: options.as_ptr(),
            options_size: options.len(),
            executable: std::ptr::null_mut(),
        };
        // SAFETY: the client is alive; program and options live through the call.
        let made = unsafe { functions.client_compile.call(functions, fields) }?;
        let raw = Handle::filled(functions.client_compile.name, made.executable)?;
        // From here on it is freed, whatever happens.
        let mut executable = Executable { raw, client: client.inner.clone(), inputs: Vec::new(), outputs: Vec::new() };
        executable.look()?;
        Ok(executable)
    }

    /// What it takes.
    pub fn inputs(&self) -> &[TensorType] {
        &self.inputs
    }

    /// What it returns.
    pub fn outputs(&self) -> &[TensorType] {
        &self.outputs
    }

    /// Runs it, and waits for its end. The inputs stay as they are.
    ///
    /// # Errors
    /// [`PjrtError::Mismatch`] when the inputs are not those of [`inputs`](Self::inputs) or of another client, and what the plugin
    /// says.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn execute(&self, inputs: &[&Buffer]) -> Result<Vec<Buffer>, PjrtError> {
        self.check(inputs)?;
        let functions = &self.client.library.functions;
        let places: Option<Vec<Place>> = inputs.iter().map(|input| Some(input.of(&self.client)?.place())).collect();
        let places = places.ok_or_else(|| PjrtError::Mismatch("an input lies with another client".into()))?;
        let kept: Vec<i64> = (0..places.len() as i64).collect();
        let none = std::ptr::null_mut();
        let mut options = Args::new(ExecuteOptions {
            callbacks: [none; 2],
            callback_counts: [0; 2],
            launch: 0,
            zero: 0,
            // A program may ask to write its results over its inputs, which belong to the caller.
            kept: kept.as_ptr(),
            kept_count: kept.len(),
        });
        let mut results: Vec<Place> = vec![none; self.outputs.len()];
        let mut done = none;
        let per_device = [places.as_ptr()];
        let results_per_device = [results.as_mut_ptr()];
        let fields = Execute {
            executable: self.raw.place(),
            options: &raw mut options,
            inputs: per_device.as_ptr(),
            devices: 1,
            input_count: places.len(),
            outputs: results_per_device.as_ptr(),
            done: &raw mut done,
            device: none,
        };
        // SAFETY: program and inputs are alive, of one client, and as many as it takes on its one device, which `check` and `look`
        // made sure of; there is a place for each result, and all lists live through the call.
        let ran = unsafe { functions.loaded_execute.call(functions, fields) };
        // A plugin that fails fills in nothing.
        ran?;
        let made: Vec<Option<Buffer>> = results
            .into_iter()
            .map(|place| Some(Buffer::new(Handle::filled(functions.loaded_execute.name, place).ok()?, self.client.clone())))
            .collect();
        // SAFETY: null, or an event that the call made for us.
        unsafe { functions.wait(done) }?;
        made.into_iter()
            .collect::<Option<_>>()
            .ok_or(PjrtError::Answer { function: functions.loaded_execute.name, what: "fewer results than it has".into() })
    }

    fn check(&self, inputs: &[&Buffer]) -> Result<(), PjrtError> {
        let expected = &self.inputs;
        if inputs.len() != expected.len() {
            return Err(PjrtError::Mismatch(format!("the program takes {}, and was given {}", inputs_of(expected.len()), inputs.len())));
        }
        for (n, (input, expected)) in inputs.iter().zip(expected).enumerate() {
            let given = input.tensor_type()?;
            if given != *expected {
                return Err(PjrtError::Mismatch(format!("input {n} is a {expected}, and was given a {given}")));
            }
        }
        Ok(())
    }

    /// Learns what the program takes and returns.
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn look(&mut self) -> Result<(), PjrtError> {
        let functions = &self.client.library.functions;
        // SAFETY: the program is alive, and owns the list.
        let devices = unsafe { functions.loaded_devices.call(functions, List::of(self.raw)) }?.count;
        if devices != 1 {
            return Err(PjrtError::Unsupported(format!("the program is for {devices} devices; only those for one can be run")));
        }
        // SAFETY: the program is alive; what comes back is ours to free.
        let found = unsafe { functions.loaded_executable.call(functions, Two::of(self.raw)) }?;
        let raw = Handle::filled(functions.loaded_executable.name, found.other)?;
        let compiled = Compiled { raw, client: &self.client };
        let outputs = compiled.outputs()?;
        // `execute` holds what it is given against them: a plugin reads as many as the program has, however many there are.
        let inputs = compiled.inputs().ok_or_else(|| PjrtError::Unsupported("the plugin does not say what the program takes".into()))?;
        drop(compiled);
        (self.inputs, self.outputs) = (inputs, outputs);
        Ok(())
    }
}

/// `2 inputs`, as it is said.
fn inputs_of(count: usize) -> String {
    match count {
        0 => "no input".to_owned(),
        1 => "1 input".to_owned(),
        n => format!("{n} inputs"),
    }
}

impl Drop for Executable {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn drop(&mut self) {
        let functions = &self.client.library.functions;
        // SAFETY: freed once, before the client, which `self.client` keeps. Nobody is there to be told of an error.
        let _ = unsafe { functions.loaded_destroy.call(functions, One { object: self.raw.place() }) };
    }
}

/// The side of a program that is not loaded on a device; only looked at.
struct Compiled<'c> {
    raw: Handle,
    client: &'c Inner,
}

impl Compiled<'_> {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn outputs(&self) -> Result<Vec<TensorType>, PjrtError> {
        let functions = &self.client.library.functions;
        let function = functions.output_dimensions.name;
        let wrong = |what: String| PjrtError::Answer { function, what };
        // SAFETY: the program is alive, and owns the lists.
        let (count, numbers, found) = unsafe {
            let count = functions.executable_outputs.call(functions, Size { object: self.raw.place(), value: 0 })?.value;
            let numbers = functions.output_types.call(functions, List::of(self.raw))?;
            let asked =
                OutputDimensions { executable: self.raw.place(), outputs: count, dimensions: std::ptr::null(), ranks: std::ptr::null() };
            (count, list(numbers.first, numbers.count), functions.output_dimensions.call(functions, asked)?)
        };
        if count > MOST || numbers.len() != count || found.outputs != count {
            return Err(wrong(format!("{count} outputs, {} types and {} shapes", numbers.len(), found.outputs)));
        }
        // SAFETY: there is a rank for each output, and as many dimensions as the ranks say together, in the program's memory.
        let (ranks, mut dimensions) = unsafe {
            let ranks = list(found.ranks, count);
            let all = ranks.iter().try_fold(0_usize, |all, rank| all.checked_add(*rank));
            (ranks, list(found.dimensions, all.filter(|all| *all <= MOST).ok_or_else(|| wrong("too many dimensions".into()))?))
        };
        let mut outputs = Vec::with_capacity(count);
        for (number, rank) in numbers.iter().zip(ranks) {
            let own = dimensions.split_off(..*rank).ok_or_else(|| wrong("too few dimensions".into()))?;
            outputs.push(tensor_type(function, *number, own)?);
        }
        if outputs.len() != count {
            return Err(wrong("too few shapes".into()));
        }
        Ok(outputs)
    }

    /// The interface has no function for it: the compiled program says. `None` where it does not, or one is no plain tensor.
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn inputs(&self) -> Option<Vec<TensorType>> {
        let functions = &self.client.library.functions;
        let function = functions.optimized_program.as_ref()?;
        let mut program = Args::new(Program { code: std::ptr::null_mut(), code_size: 0, format: std::ptr::null(), format_size: 0 });
        let ask = |program: *mut Args<Program>| Two { object: self.raw.place(), other: program.cast() };
        // SAFETY: the program is alive; without a place for the code, its size is filled in.
        unsafe { function.call(functions, ask(&raw mut program)) }.ok()?;
        let mut code = Vec::new();
        code.try_reserve_exact(program.fields.code_size).ok()?;
        code.resize(program.fields.code_size, 0_u8);
        program.fields.code = code.as_mut_ptr();
        // SAFETY: the place for the code is as large as was asked for; the format belongs to the plugin.
        let format = unsafe {
            function.call(functions, ask(&raw mut program)).ok()?;
            text(program.fields.format, program.fields.format_size)
        };
        proto::inputs(&format, code.get(..program.fields.code_size)?)
    }
}

impl Drop for Compiled<'_> {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn drop(&mut self) {
        let functions = &self.client.library.functions;
        // SAFETY: ours to free, once. Nobody is there to be told of an error.
        let _ = unsafe { functions.executable_destroy.call(functions, One { object: self.raw.place() }) };
    }
}
