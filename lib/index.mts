// The same names for `import`: one implementation serves both module systems, so that classes and state exist once.
// Must not add a name of its own.
export * from './index.js'
