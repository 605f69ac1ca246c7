// The same names for `import`: one implementation serves both module systems.
// Must not add a name of its own.
export * from './index.js'
