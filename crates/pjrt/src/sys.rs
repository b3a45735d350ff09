//! The table of PJRT's C interface and the arguments of the functions that are used here, laid out as version 0.81 of
//! `pjrt_c_api.h` has them. Layout and checks only; what a call means is said where it is made.

#![allow(unsafe_code, reason = "a C interface")]

use std::{
    ffi::{c_char, c_void},
    ptr::NonNull,
};

use crate::error::{ErrorCode, PjrtError};

/// An object of the plugin, known by its address only.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Handle(NonNull<c_void>);

// SAFETY: PJRT binds none of its objects to a thread, and asks plugins to take calls from many at once: its frameworks compile, execute,
// copy and free from whatever thread they are on, without a lock. Only the destruction of an object has to be the last call with it,
// which the types that hold a handle see to.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// An address that the plugin fills in, or leaves null.
pub(crate) type Place = *mut c_void;

impl Handle {
    /// What a function put into a place.
    pub(crate) fn filled(function: &'static str, place: Place) -> Result<Self, PjrtError> {
        NonNull::new(place).map(Handle).ok_or_else(|| PjrtError::Answer { function, what: "success and nothing".into() })
    }

    pub(crate) fn place(self) -> Place {
        self.0.as_ptr()
    }
}

/// Words behind the fields that are known: zero, which means "not given", for plugins whose arguments have grown since. The largest
/// grew by six words within 35 versions.
const ROOM: usize = 24;

/// Arguments of one function, with room at the end: plugins refuse smaller ones than their own, and take larger ones.
#[repr(C)]
pub(crate) struct Args<T> {
    size: usize,
    extensions: Place,
    pub(crate) fields: T,
    room: [usize; ROOM],
}

impl<T> Args<T> {
    pub(crate) fn new(fields: T) -> Self {
        Args { size: size_of::<Self>(), extensions: std::ptr::null_mut(), fields, room: [0; ROOM] }
    }
}

/// A function that can fail.
type Call<T> = unsafe extern "C" fn(*mut Args<T>) -> Place;
/// A function that cannot.
type Void<T> = unsafe extern "C" fn(*mut Args<T>);

/// A function of the table, with its name for errors.
pub(crate) struct Function<T> {
    pub(crate) name: &'static str,
    call: Call<T>,
}

/// The head of the table; the functions follow it.
#[repr(C)]
struct Head {
    size: usize,
    extensions: Place,
    version: Version,
}

#[repr(C)]
struct Version {
    size: usize,
    extensions: Place,
    major: i32,
    minor: i32,
}

/// Why a table cannot be used.
pub(crate) enum Unusable {
    /// It is none.
    NoTable(String),
    /// It is one of a version that does not fit, and in what.
    Version { major: i32, minor: i32, reason: String },
}

macro_rules! functions {
    (
        required { $($name:ident: $slot:literal $c:literal $args:ty;)* }
        optional { $($may:ident: $may_slot:literal $may_c:literal $may_args:ty;)* }
    ) => {
        /// The functions that are used, each of them there.
        pub(crate) struct Functions {
            pub(crate) version: (i32, i32),
            error_destroy: Void<Error>,
            error_message: Void<ErrorMessage>,
            error_code: Call<ErrorGetCode>,
            $(pub(crate) $name: Function<$args>,)*
            $(pub(crate) $may: Option<Function<$may_args>>,)*
        }

        /// How many functions a table has to hold, so that all that are required are in it.
        pub(crate) const NEEDED: usize = {
            let mut most = 2;
            $(if $slot > most { most = $slot; })*
            most + 1
        };

        impl Functions {
            /// # Safety
            /// `table` is null or what a plugin's `GetPjrtApi` returned.
            pub(crate) unsafe fn read(table: *const c_void) -> Result<Self, Unusable> {
                // SAFETY: the same promise.
                let table = unsafe { Table::read(table) }?;
                // SAFETY: each place of the table holds a function of the type that the header gives that place, or null, which
                // `function` refuses.
                unsafe {
                    Ok(Functions {
                        version: table.version,
                        error_destroy: std::mem::transmute::<NonNull<c_void>, Void<Error>>(table.function(0, "PJRT_Error_Destroy")?),
                        error_message: std::mem::transmute::<NonNull<c_void>, Void<ErrorMessage>>(table.function(1, "PJRT_Error_Message")?),
                        error_code: std::mem::transmute::<NonNull<c_void>, Call<ErrorGetCode>>(table.function(2, "PJRT_Error_GetCode")?),
                        $($name: Function {
                            name: $c,
                            call: std::mem::transmute::<NonNull<c_void>, Call<$args>>(table.function($slot, $c)?),
                        },)*
                        $($may: table.function($may_slot, $may_c).ok().map(|f| Function {
                            name: $may_c,
                            call: std::mem::transmute::<NonNull<c_void>, Call<$may_args>>(f),
                        }),)*
                    })
                }
            }
        }

        #[cfg(test)]
        const SLOTS: &[(usize, &str)] = &[$(($slot, $c),)* $(($may_slot, $may_c),)*];
    };
}

functions! {
    required {
        plugin_initialize: 3 "PJRT_Plugin_Initialize" Nothing;
        event_destroy: 5 "PJRT_Event_Destroy" One;
        event_await: 8 "PJRT_Event_Await" One;
        client_create: 10 "PJRT_Client_Create" ClientCreate;
        client_destroy: 11 "PJRT_Client_Destroy" One;
        client_platform_name: 12 "PJRT_Client_PlatformName" Text;
        client_platform_version: 14 "PJRT_Client_PlatformVersion" Text;
        client_devices: 16 "PJRT_Client_AddressableDevices" List<Place>;
        client_compile: 20 "PJRT_Client_Compile" Compile;
        client_buffer: 22 "PJRT_Client_BufferFromHostBuffer" BufferFromHost;
        description_id: 23 "PJRT_DeviceDescription_Id" Int;
        device_description: 29 "PJRT_Device_GetDescription" Two;
        executable_destroy: 40 "PJRT_Executable_Destroy" One;
        executable_outputs: 44 "PJRT_Executable_NumOutputs" Size;
        loaded_destroy: 50 "PJRT_LoadedExecutable_Destroy" One;
        loaded_executable: 51 "PJRT_LoadedExecutable_GetExecutable" Two;
        loaded_devices: 52 "PJRT_LoadedExecutable_AddressableDevices" List<Place>;
        loaded_execute: 55 "PJRT_LoadedExecutable_Execute" Execute;
        buffer_destroy: 58 "PJRT_Buffer_Destroy" One;
        buffer_type: 59 "PJRT_Buffer_ElementType" Int;
        buffer_dimensions: 60 "PJRT_Buffer_Dimensions" List<i64>;
        buffer_to_host: 70 "PJRT_Buffer_ToHostBuffer" ToHost;
        output_types: 90 "PJRT_Executable_OutputElementTypes" List<u32>;
        output_dimensions: 91 "PJRT_Executable_OutputDimensions" OutputDimensions;
    }
    optional {
        plugin_attributes: 4 "PJRT_Plugin_Attributes" Attributes;
        description_kind: 26 "PJRT_DeviceDescription_Kind" Text;
        description_text: 28 "PJRT_DeviceDescription_ToString" Text;
        optimized_program: 48 "PJRT_Executable_OptimizedProgram" Two;
        buffer_device: 65 "PJRT_Buffer_Device" Two;
    }
}

impl<T> Function<T> {
    /// Calls it, and makes an error of what it returned.
    ///
    /// # Safety
    /// The fields are what the header asks for, and live as long as it asks for.
    pub(crate) unsafe fn call(&self, functions: &Functions, fields: T) -> Result<T, PjrtError> {
        let mut args = Args::new(fields);
        // SAFETY: the function is one of the table for arguments of this type, which live through the call; the fields are the
        // caller's promise.
        let failure = unsafe { (self.call)(&raw mut args) };
        match NonNull::new(failure) {
            None => Ok(args.fields),
            Some(failure) => Err(functions.error(self.name, failure.as_ptr())),
        }
    }
}

/// Most bytes of an error's message that are kept.
const LONGEST: usize = 64 << 10;

impl Functions {
    /// What a plugin returned instead of null; the plugin's own is freed.
    fn error(&self, function: &'static str, failure: Place) -> PjrtError {
        let mut message = Args::new(ErrorMessage { error: failure, text: std::ptr::null(), size: 0 });
        // SAFETY: `failure` is an error of this plugin that nobody has freed.
        unsafe { (self.error_message)(&raw mut message) };
        let ErrorMessage { text: words, size, .. } = message.fields;
        // SAFETY: the message is a pointer and the number of its bytes, and lives as long as the error.
        let message = unsafe { text(words, size.min(LONGEST)) }.trim().to_owned();
        let mut code = Args::new(ErrorGetCode { error: failure, code: UNKNOWN, zero: 0 });
        // SAFETY: as above.
        let nested = unsafe { (self.error_code)(&raw mut code) };
        for error in [nested, failure] {
            if !error.is_null() {
                let mut args = Args::new(Error { error });
                // SAFETY: an error of this plugin, which is freed once and not used afterwards.
                unsafe { (self.error_destroy)(&raw mut args) };
            }
        }
        let code = ErrorCode(if nested.is_null() { code.fields.code } else { UNKNOWN });
        PjrtError::Call { function, code, message: if message.is_empty() { "the plugin said nothing".to_owned() } else { message } }
    }

    /// Waits for an event and frees it. One that is null has happened.
    ///
    /// # Safety
    /// `event` is null or an event of this plugin that nobody has freed.
    pub(crate) unsafe fn wait(&self, event: Place) -> Result<(), PjrtError> {
        if event.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise; the event is freed after it was waited for, once.
        unsafe {
            let ended = self.event_await.call(self, One { object: event });
            let freed = self.event_destroy.call(self, One { object: event });
            ended.and(freed).map(drop)
        }
    }
}

/// A table that was looked at and found sound.
struct Table {
    functions: *const *mut c_void,
    count: usize,
    version: (i32, i32),
}

/// A table is longer than this only if it is none.
const LARGEST_TABLE: usize = 1 << 16;
/// The code of an error that nobody knows more of.
const UNKNOWN: u32 = 2;

impl Table {
    /// # Safety
    /// `table` is null or what a plugin's `GetPjrtApi` returned.
    unsafe fn read(table: *const c_void) -> Result<Self, Unusable> {
        let head = table.cast::<Head>();
        if head.is_null() || !head.is_aligned() {
            return Err(Unusable::NoTable("GetPjrtApi returns no table".into()));
        }
        // SAFETY: every table begins with its size.
        let size = unsafe { (&raw const (*head).size).read() };
        if size < size_of::<Head>() || size > LARGEST_TABLE {
            return Err(Unusable::NoTable(format!("its table is said to take {size} bytes")));
        }
        // SAFETY: the table is as long as its head, by its own word.
        let head = unsafe { &*head };
        let Version { size: of_version, major, minor, .. } = head.version;
        let unfit = |reason: String| Err(Unusable::Version { major, minor, reason });
        // Before there was a version, functions stood in its place: its size is an address then.
        if of_version < size_of::<Version>() || of_version > LARGEST_TABLE {
            return Err(Unusable::NoTable("its table has no version: it is too old".into()));
        }
        if major != 0 {
            return unfit(format!("is {} than this program, which speaks 0.x", if major > 0 { "newer" } else { "older" }));
        }
        let count = (size - size_of::<Head>()) / size_of::<*mut c_void>();
        if count < NEEDED {
            return unfit(format!("is too old: {NEEDED} functions are needed, and it has {count}"));
        }
        // SAFETY: the functions follow the head, within the size that was said.
        let functions = unsafe { std::ptr::from_ref(head).add(1) }.cast();
        Ok(Table { functions, count, version: (major, minor) })
    }

    fn function(&self, slot: usize, name: &'static str) -> Result<NonNull<c_void>, Unusable> {
        let (major, minor) = self.version;
        let missing = || Unusable::Version { major, minor, reason: format!("has no {name}, which is needed") };
        if slot >= self.count {
            return Err(missing());
        }
        // SAFETY: within the table.
        NonNull::new(unsafe { self.functions.add(slot).read() }).ok_or_else(missing)
    }
}

/// A list of C, whose length is believed up to what fits into memory; none where it is null.
///
/// # Safety
/// `first` is null or points to `count` elements that live and do not change for `'l`.
pub(crate) unsafe fn list<'l, T>(first: *const T, count: usize) -> &'l [T] {
    if first.is_null() || !first.is_aligned() || count > isize::MAX as usize / size_of::<T>().max(1) {
        return &[];
    }
    // SAFETY: not null, aligned, short enough; the rest is the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A text of C, which may be anything.
///
/// # Safety
/// `first` is null or points to `size` bytes that do not change meanwhile.
pub(crate) unsafe fn text(first: *const c_char, size: usize) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { list(first.cast::<u8>(), size) }).into_owned()
}

// The arguments. Structs that end in the middle of a word say so, so that no byte of a later field is undefined.

#[repr(C)]
pub(crate) struct Nothing {}

#[repr(C)]
pub(crate) struct Error {
    error: Place,
}

#[repr(C)]
pub(crate) struct ErrorMessage {
    error: Place,
    text: *const c_char,
    size: usize,
}

#[repr(C)]
pub(crate) struct ErrorGetCode {
    error: Place,
    code: u32,
    zero: u32,
}

#[repr(C)]
pub(crate) struct One {
    pub(crate) object: Place,
}

/// An object, and another that is asked of it.
#[repr(C)]
pub(crate) struct Two {
    pub(crate) object: Place,
    pub(crate) other: Place,
}

impl Two {
    pub(crate) fn of(object: Handle) -> Self {
        Two { object: object.place(), other: std::ptr::null_mut() }
    }
}

#[repr(C)]
pub(crate) struct Int {
    pub(crate) object: Place,
    pub(crate) value: u32,
    zero: u32,
}

impl Int {
    pub(crate) fn of(object: Handle) -> Self {
        Int { object: object.place(), value: 0, zero: 0 }
    }
}

#[repr(C)]
pub(crate) struct Size {
    pub(crate) object: Place,
    pub(crate) value: usize,
}

#[repr(C)]
pub(crate) struct Text {
    object: Place,
    pub(crate) text: *const c_char,
    pub(crate) size: usize,
}

impl Text {
    pub(crate) fn of(object: Handle) -> Self {
        Text { object: object.place(), text: std::ptr::null(), size: 0 }
    }
}

#[repr(C)]
pub(crate) struct List<T> {
    object: Place,
    pub(crate) first: *const T,
    pub(crate) count: usize,
}

impl<T> List<T> {
    pub(crate) fn of(object: Handle) -> Self {
        List { object: object.place(), first: std::ptr::null(), count: 0 }
    }
}

#[repr(C)]
pub(crate) struct Attributes {
    pub(crate) first: *const NamedValue,
    pub(crate) count: usize,
}

/// As an element of a list: no room at its end.
#[repr(C)]
pub(crate) struct NamedValue {
    pub(crate) size: usize,
    pub(crate) extensions: Place,
    pub(crate) name: *const c_char,
    pub(crate) name_size: usize,
    pub(crate) kind: u32,
    pub(crate) zero: u32,
    /// A union: a pointer, a number, a float in its first four bytes, a bool in its first.
    pub(crate) value: u64,
    pub(crate) value_size: usize,
}

#[repr(C)]
pub(crate) struct ClientCreate {
    pub(crate) options: *const NamedValue,
    pub(crate) option_count: usize,
    /// Ways for processes to know each other, and what these are called with.
    pub(crate) exchange: [Place; 4],
    pub(crate) client: Place,
}

#[repr(C)]
pub(crate) struct Program {
    pub(crate) code: *mut u8,
    pub(crate) code_size: usize,
    pub(crate) format: *const c_char,
    pub(crate) format_size: usize,
}

#[repr(C)]
pub(crate) struct Compile {
    pub(crate) client: Place,
    pub(crate) program: *const Args<Program>,
    pub(crate) options: *const u8,
    pub(crate) options_size: usize,
    pub(crate) executable: Place,
}

#[repr(C)]
pub(crate) struct OutputDimensions {
    pub(crate) executable: Place,
    pub(crate) outputs: usize,
    pub(crate) dimensions: *const i64,
    pub(crate) ranks: *const usize,
}

/// The plugin reads the data during the call only.
pub(crate) const ONLY_DURING_CALL: u32 = 0;

#[repr(C)]
pub(crate) struct BufferFromHost {
    pub(crate) client: Place,
    pub(crate) data: *const u8,
    pub(crate) element: u32,
    pub(crate) zero: u32,
    pub(crate) dimensions: *const i64,
    pub(crate) rank: usize,
    pub(crate) strides: *const i64,
    pub(crate) stride_count: usize,
    pub(crate) semantics: u32,
    pub(crate) zero_too: u32,
    pub(crate) device: Place,
    pub(crate) memory: Place,
    pub(crate) layout: Place,
    pub(crate) done: Place,
    pub(crate) buffer: Place,
}

/// A layout by the order of dimensions. It is pointed to, and no room is needed behind it: it is a union of fixed size.
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) extensions: Place,
    pub(crate) tiled_size: usize,
    pub(crate) tiled_extensions: Place,
    pub(crate) minor_to_major: *const i64,
    pub(crate) rank: usize,
    pub(crate) tiles: *const i64,
    pub(crate) tile_sizes: *const usize,
    pub(crate) tile_count: usize,
    pub(crate) kind: u32,
    pub(crate) zero: u32,
}

impl Layout {
    /// The last dimension of the list varies slowest; the list has to outlive the layout.
    pub(crate) fn tiled(minor_to_major: &[i64]) -> Self {
        Layout {
            size: size_of::<Self>(),
            extensions: std::ptr::null_mut(),
            tiled_size: 7 * size_of::<usize>(),
            tiled_extensions: std::ptr::null_mut(),
            minor_to_major: minor_to_major.as_ptr(),
            rank: minor_to_major.len(),
            tiles: std::ptr::null(),
            tile_sizes: std::ptr::null(),
            tile_count: 0,
            kind: 0,
            zero: 0,
        }
    }
}

#[repr(C)]
pub(crate) struct ToHost {
    pub(crate) buffer: Place,
    pub(crate) layout: *const Layout,
    pub(crate) data: *mut u8,
    pub(crate) size: usize,
    pub(crate) done: Place,
}

#[repr(C)]
pub(crate) struct ExecuteOptions {
    pub(crate) callbacks: [Place; 2],
    pub(crate) callback_counts: [usize; 2],
    pub(crate) launch: u32,
    pub(crate) zero: u32,
    /// Inputs that the program may not write its results into.
    pub(crate) kept: *const i64,
    pub(crate) kept_count: usize,
}

#[repr(C)]
pub(crate) struct Execute {
    pub(crate) executable: Place,
    pub(crate) options: *mut Args<ExecuteOptions>,
    pub(crate) inputs: *const *const Place,
    pub(crate) devices: usize,
    pub(crate) input_count: usize,
    pub(crate) outputs: *const *mut Place,
    pub(crate) done: *mut Place,
    pub(crate) device: Place,
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// Offsets of the last field that is used, as a C compiler has them with `pjrt_c_api.h` 0.81.
    #[test]
    fn fields_lie_where_the_header_has_them() {
        let of_args = offset_of!(Args<Nothing>, room);
        for (what, here, header) in [
            ("head", size_of::<Head>(), 40),
            ("fields", of_args, 16),
            ("error code", of_args + offset_of!(ErrorGetCode, code), 24),
            ("message size", of_args + offset_of!(ErrorMessage, size), 32),
            ("value_size of a named value", offset_of!(NamedValue, value_size), 48),
            ("named value", size_of::<NamedValue>(), 56),
            ("client", of_args + offset_of!(ClientCreate, client), 64),
            ("format_size", of_args + offset_of!(Program, format_size), 40),
            ("executable", of_args + offset_of!(Compile, executable), 48),
            ("dim_sizes", of_args + offset_of!(OutputDimensions, ranks), 40),
            ("dims", of_args + offset_of!(BufferFromHost, dimensions), 40),
            ("semantics", of_args + offset_of!(BufferFromHost, semantics), 72),
            ("buffer", of_args + offset_of!(BufferFromHost, buffer), 112),
            ("layout type", offset_of!(Layout, kind), 72),
            ("event", of_args + offset_of!(ToHost, done), 48),
            ("non_donatable_input_indices", of_args + offset_of!(ExecuteOptions, kept), 56),
            ("execute_device", of_args + offset_of!(Execute, device), 72),
        ] {
            assert_eq!(here, header, "{what}");
        }
    }

    #[test]
    fn no_place_of_the_table_is_used_twice() {
        let mut slots: Vec<_> = SLOTS.iter().map(|(slot, _)| *slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), SLOTS.len());
        assert!(slots.iter().all(|slot| *slot > 2));
        assert_eq!(NEEDED, 92);
    }
}
