//! The shape of request bodies: enough to walk one without knowing what it means.

mod requests;

pub use requests::body;

/// A field of a structure, in wire order.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// What the field holds.
    pub shape: Shape,
    /// The first version that has the field.
    pub since: i16,
    /// The last version that has the field.
    pub until: i16,
    /// The field's tag when it is a tagged field of flexible versions (KIP-482).
    pub tag: Option<u32>,
}

/// The wire shape of a value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// So many bytes: integers, booleans, UUIDs.
    Fixed(usize),
    /// A string, possibly null.
    String,
    /// A byte string, possibly null.
    Bytes,
    /// A structure on its own.
    Struct(&'static [Field]),
    /// An array of structures, possibly null.
    Structs(&'static [Field]),
    /// An array of values of a fixed size, possibly null.
    FixedArray(usize),
    /// An array of strings, possibly null.
    Strings,
}

impl Field {
    const fn new(shape: Shape) -> Self {
        Self {
            shape,
            since: 0,
            until: i16::MAX,
            tag: None,
        }
    }

    /// The field exists from this version on.
    const fn since(self, version: i16) -> Self {
        Self {
            since: version,
            ..self
        }
    }

    /// The field exists up to this version.
    const fn until(self, version: i16) -> Self {
        Self {
            until: version,
            ..self
        }
    }

    /// The field travels among the tagged ones.
    const fn tagged(self, tag: u32) -> Self {
        Self {
            tag: Some(tag),
            ..self
        }
    }

    /// Does the version have the field?
    pub fn exists_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

const fn boolean() -> Field {
    Field::new(Shape::Fixed(1))
}

const fn int8() -> Field {
    Field::new(Shape::Fixed(1))
}

const fn int16() -> Field {
    Field::new(Shape::Fixed(2))
}

const fn int32() -> Field {
    Field::new(Shape::Fixed(4))
}

const fn int64() -> Field {
    Field::new(Shape::Fixed(8))
}

const fn uuid() -> Field {
    Field::new(Shape::Fixed(16))
}

const fn string() -> Field {
    Field::new(Shape::String)
}

const fn bytes() -> Field {
    Field::new(Shape::Bytes)
}

const fn structure(fields: &'static [Field]) -> Field {
    Field::new(Shape::Struct(fields))
}

const fn array(element: &'static [Field]) -> Field {
    Field::new(Shape::Structs(element))
}

const fn int32_array() -> Field {
    Field::new(Shape::FixedArray(4))
}

const fn int64_array() -> Field {
    Field::new(Shape::FixedArray(8))
}

const fn string_array() -> Field {
    Field::new(Shape::Strings)
}
