// The package in TypeScript: its types are found, and a wrong call is an error.
import { type DeviceInfo, devices, Model } from 'mixture-of-recursions'
import { createServer } from 'mixture-of-recursions/server'

export const first: DeviceInfo | undefined = devices()[0]
export const model: Promise<Model> = Model.load('folder', { dtype: 'float32' })
export const server: typeof createServer = createServer
// @ts-expect-error: a preset or a configuration is needed, and a number is neither.
export const wrong = Model.create(1)
