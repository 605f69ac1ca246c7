// Checks the headers of a Parquet column's pages, which hyparquet trusts: a size that is missing has it read one place for ever.
import type { AsyncBuffer, ColumnMetaData, RowGroup } from 'hyparquet'

/** Throws an Error if the bytes of the column in this row group do not hold pages with a value for each row. */
export async function checkPages(file: AsyncBuffer, group: RowGroup, column: string): Promise<void> {
  for (const { meta_data: data } of group.columns) {
    if (data?.path_in_schema[0] !== column) continue
    within('rows', group.num_rows, data.num_values, 'the row group')
    await checkChunk(file, data)
  }
}

async function checkChunk(file: AsyncBuffer, data: ColumnMetaData): Promise<void> {
  const { parquetHeader } = await import('hyparquet/src/column.js')
  const start = Number(data.dictionary_page_offset || data.data_page_offset)
  const size = Number(data.total_compressed_size)
  const reader = { view: new DataView(await file.slice(start, start + size)), offset: 0 }
  for (let values = Number(data.num_values); values > 0; ) {
    const where = `the page at byte ${start + reader.offset}`
    const page = parquetHeader(reader)
    reader.offset += within('bytes', page.compressed_page_size, size - reader.offset, where)
    const unpacked = within('unpacked bytes', page.uncompressed_page_size, 0x7fffffff, where)
    const { data_page_header: v1, data_page_header_v2: v2 } = page
    if (v2 !== undefined) {
      within('rows', v2.num_rows, values, where)
      within('nulls', v2.num_nulls, v2.num_values, where)
      const levels = within('bytes of repetition levels', v2.repetition_levels_byte_length, unpacked, where)
      within('bytes of definition levels', v2.definition_levels_byte_length, unpacked - levels, where)
    }
    const held = v1 ?? v2
    if (held !== undefined) values -= within('values', held.num_values, values, where)
  }
}

function within(name: string, value: number | bigint | undefined, most: number | bigint, where: string): number {
  const number = Number(value)
  if (Number.isInteger(number) && number >= 0 && number <= most) return number
  throw new Error(`${where} has ${value} ${name}, not between 0 and ${most}`)
}
