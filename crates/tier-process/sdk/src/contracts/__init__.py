"""The contracts that a plugin implements, one module each, under the names of the plugin development guide."""
