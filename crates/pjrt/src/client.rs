//! A client of a loaded plugin: its devices, and values on them. Programs are in `executable`.

use std::{fmt, sync::Arc};

use crate::{
    error::PjrtError,
    executable::{CompileOptions, Executable},
    library::Library,
    sys::{BufferFromHost, ClientCreate, Handle, Int, Layout, List, ONLY_DURING_CALL, One, Text, ToHost, Two, list, text},
    tensor::{ElementType, Tensor, TensorType},
    value::{self, Value},
};

/// A plugin at work, with devices of its own. A clone is the same client.
///
/// Clients, programs and buffers may be used from any thread, by many at once: that is what PJRT asks of plugins, whose frameworks
/// compile, execute and copy on threads of their own without a lock.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What buffers and programs keep alive: a client goes after the last of what it made.
pub(crate) struct Inner {
    pub(crate) library: &'static Library,
    pub(crate) raw: Handle,
    devices: Vec<Device>,
}

/// A device of a client.
#[derive(Debug, Clone)]
pub struct Device {
    pub(crate) raw: Handle,
    /// Its number among devices of its kind.
    pub(crate) id: u32,
    kind: String,
    description: String,
}

impl Device {
    /// Its number among devices of its kind.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it is, such as `cpu` or the name of an accelerator; empty where the plugin does not say.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("library", self.library()).field("devices", &self.devices()).finish()
    }
}

impl Client {
    /// A client with options of the plugin's own, such as `preallocate` of XLA for CUDA.
    ///
    /// # Errors
    /// What the plugin says: no device, no driver, an option that it does not know.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn new(library: &'static Library, options: &[(&str, Value)]) -> Result<Self, PjrtError> {
        let functions = &library.functions;
        let options: Vec<_> = options.iter().map(|(name, value)| value::to_c(name, value)).collect();
        let none = std::ptr::null_mut();
        // SAFETY: the options point into what was handed in, which lives through the call; there are no callbacks.
        let made = unsafe {
            functions
                .client_create
                .call(functions, ClientCreate { options: options.as_ptr(), option_count: options.len(), exchange: [none; 4], client: none })
        }?;
        let raw = Handle::filled(functions.client_create.name, made.client)?;
        // From here on it is freed, whatever happens.
        let mut inner = Inner { library, raw, devices: Vec::new() };
        inner.devices = inner.find_devices()?;
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The plugin that it is of.
    pub fn library(&self) -> &'static Library {
        self.inner.library
    }

    /// What it runs on, such as `cpu` or `cuda`.
    ///
    /// # Errors
    /// What the plugin says.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn platform_name(&self) -> Result<String, PjrtError> {
        let functions = &self.inner.library.functions;
        // SAFETY: the client is alive, and owns the text.
        unsafe {
            let told = functions.client_platform_name.call(functions, Text::of(self.inner.raw))?;
            Ok(text(told.text, told.size))
        }
    }

    /// Which version of it, in words of the plugin.
    ///
    /// # Errors
    /// What the plugin says.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn platform_version(&self) -> Result<String, PjrtError> {
        let functions = &self.inner.library.functions;
        // SAFETY: the client is alive, and owns the text.
        unsafe {
            let told = functions.client_platform_version.call(functions, Text::of(self.inner.raw))?;
            Ok(text(told.text, told.size))
        }
    }

    /// The devices that programs can run on; there is at least one.
    pub fn devices(&self) -> &[Device] {
        &self.inner.devices
    }

    /// Makes a program ready to run: StableHLO as text or bytecode of MLIR. It can take long.
    ///
    /// # Errors
    /// What the plugin says of the program; a device that there is not; a program for more than one device.
    pub fn compile(&self, program: impl AsRef<[u8]>, options: &CompileOptions) -> Result<Executable, PjrtError> {
        Executable::compile(self, program.as_ref(), options)
    }

    /// Copies a value to the device of this number in [`devices`](Self::devices).
    ///
    /// # Errors
    /// A device that there is not, and what the plugin says: no memory, as a rule.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn buffer(&self, tensor: &Tensor, device: usize) -> Result<Buffer, PjrtError> {
        let functions = &self.inner.library.functions;
        let of = tensor.tensor_type();
        let device = self.device(device)?;
        // No dimension of a tensor in memory is larger than that.
        let dimensions: Vec<i64> = of.dimensions.iter().map(|n| *n as i64).collect();
        let fields = BufferFromHost {
            client: self.inner.raw.place(),
            data: tensor.bytes().as_ptr(),
            element: of.element.number(),
            zero: 0,
            dimensions: dimensions.as_ptr(),
            rank: dimensions.len(),
            strides: std::ptr::null(),
            stride_count: 0,
            semantics: ONLY_DURING_CALL,
            zero_too: 0,
            device: device.raw.place(),
            memory: std::ptr::null_mut(),
            layout: std::ptr::null_mut(),
            done: std::ptr::null_mut(),
            buffer: std::ptr::null_mut(),
        };
        // SAFETY: client and device are alive and belong together; data, as long as type and dimensions say, and dimensions live
        // through the call and the wait.
        unsafe {
            let made = functions.client_buffer.call(functions, fields)?;
            let buffer = Handle::filled(functions.client_buffer.name, made.buffer);
            let copied = functions.wait(made.done);
            let buffer = Buffer { raw: buffer?, client: self.inner.clone() };
            copied.map(|()| buffer)
        }
    }

    pub(crate) fn device(&self, number: usize) -> Result<&Device, PjrtError> {
        let devices = self.devices();
        devices.get(number).ok_or_else(|| {
            PjrtError::Mismatch(format!(
                "there is no device {number}; there {}",
                match devices.len() {
                    1 => "is only device 0".to_owned(),
                    n => format!("are devices 0 to {}", n - 1),
                }
            ))
        })
    }
}

impl Inner {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn find_devices(&self) -> Result<Vec<Device>, PjrtError> {
        let functions = &self.library.functions;
        let wrong = |what: &str| PjrtError::Answer { function: functions.client_devices.name, what: what.into() };
        // SAFETY: the client is alive, and owns the list and its devices.
        let found = unsafe {
            let found = functions.client_devices.call(functions, List::of(self.raw))?;
            list(found.first, found.count)
        };
        if found.is_empty() {
            return Err(wrong("no device"));
        }
        found.iter().map(|place| self.describe(Handle::filled(functions.client_devices.name, *place)?)).collect()
    }

    #[allow(unsafe_code, reason = "calls a C interface")]
    fn describe(&self, raw: Handle) -> Result<Device, PjrtError> {
        let functions = &self.library.functions;
        // SAFETY: the device lives as long as the client; its description and the texts of that do, too.
        unsafe {
            let described = functions.device_description.call(functions, Two::of(raw))?;
            let described = Handle::filled(functions.device_description.name, described.other)?;
            let id = functions.description_id.call(functions, Int::of(described))?.value;
            let words = |function: &Option<_>| -> Result<String, PjrtError> {
                let Some(function): &Option<crate::sys::Function<Text>> = function else { return Ok(String::new()) };
                let told = function.call(functions, Text::of(described))?;
                Ok(text(told.text, told.size))
            };
            let kind = words(&functions.description_kind)?;
            let description = Some(words(&functions.description_text)?).filter(|text| !text.is_empty());
            Ok(Device { raw, id, kind, description: description.unwrap_or_else(|| format!("device {id}")) })
        }
    }
}

impl Drop for Inner {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn drop(&mut self) {
        let functions = &self.library.functions;
        // SAFETY: this is the last that knows of the client: buffers and programs hold the `Arc` around it. Nobody is there to be told
        // of an error.
        let _ = unsafe { functions.client_destroy.call(functions, One { object: self.raw.place() }) };
    }
}

/// A value on a device.
pub struct Buffer {
    raw: Handle,
    client: Arc<Inner>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("type", &self.tensor_type()).finish()
    }
}

impl Buffer {
    pub(crate) fn new(raw: Handle, client: Arc<Inner>) -> Self {
        Buffer { raw, client }
    }

    /// Its handle, for a client that it belongs to.
    pub(crate) fn of(&self, client: &Arc<Inner>) -> Option<Handle> {
        Arc::ptr_eq(&self.client, client).then_some(self.raw)
    }

    /// Its type.
    ///
    /// # Errors
    /// [`PjrtError::Unsupported`] for elements that this crate does not have, such as those of less than a byte.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn tensor_type(&self) -> Result<TensorType, PjrtError> {
        let functions = &self.client.library.functions;
        // SAFETY: the buffer is alive, and owns the list of its dimensions.
        let (number, dimensions) = unsafe {
            let number = functions.buffer_type.call(functions, Int::of(self.raw))?.value;
            let found = functions.buffer_dimensions.call(functions, List::of(self.raw))?;
            (number, list(found.first, found.count))
        };
        tensor_type(functions.buffer_dimensions.name, number, dimensions)
    }

    /// Which of [`Client::devices`] it is on; `None` where the plugin does not say.
    ///
    /// # Errors
    /// What the plugin says.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn device(&self) -> Result<Option<usize>, PjrtError> {
        let functions = &self.client.library.functions;
        let Some(function) = &functions.buffer_device else { return Ok(None) };
        // SAFETY: the buffer is alive.
        let on = unsafe { function.call(functions, Two::of(self.raw)) }?.other;
        Ok(self.client.devices.iter().position(|device| device.raw.place() == on))
    }

    /// Copies it here, once it is computed.
    ///
    /// # Errors
    /// What the plugin says, also of the program that was to compute it.
    #[allow(unsafe_code, reason = "calls a C interface")]
    pub fn to_host(&self) -> Result<Tensor, PjrtError> {
        let functions = &self.client.library.functions;
        let of = self.tensor_type()?;
        let size = of.bytes().ok_or_else(|| PjrtError::Answer { function: functions.buffer_dimensions.name, what: of.to_string() })?;
        let mut data = Vec::new();
        data.try_reserve_exact(size).map_err(|_| PjrtError::Unsupported(format!("there is no memory for a {of}")))?;
        data.resize(size, 0);
        let minor_to_major: Vec<i64> = (0..of.dimensions.len() as i64).rev().collect();
        let layout = Layout::tiled(&minor_to_major);
        let fields = ToHost {
            buffer: self.raw.place(),
            // A device may keep its dimensions in another order.
            layout: &raw const layout,
            data: data.as_mut_ptr(),
            size,
            done: std::ptr::null_mut(),
        };
        // Without an element there is nothing to copy, and an empty list of Rust has no address that a plugin could be given.
        if size > 0 {
            // SAFETY: the buffer is alive; layout and data live through the call and the wait, and the data is as large as is said.
            unsafe {
                let copying = functions.buffer_to_host.call(functions, fields)?;
                functions.wait(copying.done)?;
            }
        }
        Ok(Tensor::from_device(of, data))
    }
}

impl Drop for Buffer {
    #[allow(unsafe_code, reason = "calls a C interface")]
    fn drop(&mut self) {
        let functions = &self.client.library.functions;
        // SAFETY: freed once, before the client, which `self.client` keeps. Nobody is there to be told of an error.
        let _ = unsafe { functions.buffer_destroy.call(functions, One { object: self.raw.place() }) };
    }
}

/// A type from what a plugin says.
pub(crate) fn tensor_type(function: &'static str, number: u32, dimensions: &[i64]) -> Result<TensorType, PjrtError> {
    let element = ElementType::of_number(number).ok_or_else(|| {
        PjrtError::Unsupported(format!(
            "element type {number} of PJRT cannot be used here: it is no whole number of bytes, or none that is known"
        ))
    })?;
    let dimensions = dimensions.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>();
    let dimensions = dimensions.map_err(|_| PjrtError::Answer { function, what: "a negative dimension".into() })?;
    Ok(TensorType { element, dimensions })
}
